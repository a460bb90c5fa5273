// Checks that a module imports nothing. Without --only-imports it is the program without `std`, and is run: the codec, and a whole
// client in a bare loop.
import { readFileSync } from "node:fs";

const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const imports = WebAssembly.Module.imports(module);
if (imports.length !== 0) {
    console.error("the module imports", imports);
    process.exit(1);
}
if (process.argv.includes("--only-imports")) {
    console.log("the module imports nothing");
    process.exit(0);
}
const { exports } = new WebAssembly.Instance(module, {});
const code = exports.main(0, 0);
if (code !== 0) {
    console.error(`the program ended with ${code}`);
    process.exit(1);
}
console.log("the module imports nothing, and its client ended well");
