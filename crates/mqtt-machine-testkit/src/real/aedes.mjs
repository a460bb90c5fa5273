// An aedes on one loopback port: `node aedes.mjs PORT FOLDER`, where FOLDER is what .ci/install-aedes made.
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { pathToFileURL } from 'node:url'

const [port, folder] = process.argv.slice(2)
const { Aedes } = await import(pathToFileURL(createRequire(folder + '/').resolve('aedes')))
const broker = await Aedes.createBroker()
const server = createServer(broker.handle).listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => { server.close(); broker.close(() => process.exit(0)) })
