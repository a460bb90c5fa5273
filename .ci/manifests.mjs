// Reads `cargo metadata` from standard input. Checks that every published crate says what a registry wants to know, that all
// dependencies have licences that go with ours, and prints the order in which the crates can be published. With --unpublished it
// prints the names of the crates that are not, with --libraries of those that are and can be used by others.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const { packages, workspace_members } = JSON.parse(readFileSync(0, "utf8"));
const members = packages.filter(({ id }) => workspace_members.includes(id));
const isPublished = ({ publish }) => publish === null || publish.length > 0;

if (process.argv.includes("--unpublished")) {
    for (const { name } of members) {
        if (!isPublished(members.find((member) => member.name === name))) console.log(name);
    }
    process.exit(0);
}

if (process.argv.includes("--libraries")) {
    const isLibrary = ({ targets }) => targets.some(({ kind }) => kind.includes("lib"));
    for (const { name } of members.filter(isPublished).filter(isLibrary)) console.log(name);
    process.exit(0);
}

const faults = [];
const published = members.filter(isPublished);
for (const crate of published) {
    const fault = (what) => faults.push(`${crate.name}: ${what}`);
    for (const field of ["description", "license", "repository", "rust_version"]) {
        if (!crate[field]) fault(`no ${field}`);
    }
    if (crate.keywords.length === 0 || crate.keywords.length > 5) fault("one to five keywords");
    if (crate.categories.length === 0) fault("no category");
    if (!existsSync(join(dirname(crate.manifest_path), "README.md"))) fault("no README.md");
    if (crate.license !== "MIT OR Apache-2.0") fault(`another licence: ${crate.license}`);
    for (const dependency of crate.dependencies) {
        // A dev-dependency without a version is left out of the package.
        if (dependency.kind === "dev" && dependency.req === "*" && dependency.path) continue;
        const target = members.find(({ name }) => dependency.path && name === dependency.name);
        if (target && dependency.kind !== "dev" && !isPublished(target)) fault(`needs ${target.name}, which is not published`);
        if (dependency.req === "*") fault(`any version of ${dependency.name}`);
    }
}

// Licences that ask for no more than a notice. OR and AND may combine them, and a choice is enough if one side of it is here.
const fine = new Set([
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MITNFA", "OpenSSL", "Unicode-3.0", "Unlicense", "Zlib",
]);
function isFine(expression) {
    let text = expression.replaceAll("/", " OR ").trim();
    // The innermost brackets first; what was judged stands as a word of its own.
    for (;;) {
        const inner = text.match(/\(([^()]*)\)/);
        if (!inner) break;
        text = text.replace(inner[0], isFine(inner[1]) ? "MIT" : "refused");
    }
    return text.split(/\s+OR\s+/).some((all) => all.split(/\s+AND\s+/).every((one) => fine.has(one.trim())));
}
const licences = new Map();
for (const { name, version, license, source } of packages.filter(({ id }) => !workspace_members.includes(id))) {
    if (source !== "registry+https://github.com/rust-lang/crates.io-index") faults.push(`${name} ${version}: not from crates.io`);
    if (!license || !isFine(license)) faults.push(`${name} ${version}: licence ${license}`);
    licences.set(license, (licences.get(license) ?? 0) + 1);
}

const order = [];
const names = new Set(published.map(({ name }) => name));
while (order.length < published.length) {
    const ready = published.filter(({ name, dependencies }) => !order.includes(name)
        && dependencies.every((d) => d.kind === "dev" && d.req === "*" || !names.has(d.name) || order.includes(d.name)));
    if (ready.length === 0) {
        faults.push(`no order to publish in: ${[...names].filter((name) => !order.includes(name)).join(", ")}`);
        break;
    }
    order.push(...ready.map(({ name }) => name).sort());
}

for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exit(1);
console.log(`${[...licences.values()].reduce((sum, count) => sum + count, 0)} dependencies, ${licences.size} licences, all fine`);
console.log(`to be published in this order: ${order.join(", ")}`);
