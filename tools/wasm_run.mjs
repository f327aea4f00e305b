// Runs a MicroPython script on 32-bit MicroPython (WebAssembly), where objects are as big as on a board.
//
//     node tools/wasm_run.mjs script.py [file...]
//
// The files are put into the root folder of its file system, so the script can import them (.py and .mpy).
// Memory is freed only after a script has returned, so this one is run in pieces: a line `gc.collect()` that
// is not indented ends a piece, and there the heap is really collected.
// Needs the npm package that `make peers` installs. It has no socket, no select and no os.urandom.
// The exit code is 1 when the script raised.

import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const HOST = join(dirname(fileURLToPath(import.meta.url)), "..", "tests", "host");
const MODULE = "node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs";

/** Returns the function that starts MicroPython; ends the process when the npm package is missing. */
async function findLoader() {
    try {
        return (await import(pathToFileURL(join(HOST, MODULE)).href)).loadMicroPython;
    } catch (error) {
        console.error(`MicroPython for WebAssembly is missing (make peers): ${error.code}`);
        process.exit(2);
    }
}

/** Splits a script behind each top-level gc.collect(); the pieces keep their line numbers. */
function pieces(source) {
    const found = [""];
    source.split("\n").forEach((line, index) => {
        found[found.length - 1] += line + "\n";
        if (line === "gc.collect()") found.push("\n".repeat(index + 1));
    });
    return found;
}

const [script, ...files] = process.argv.slice(2);
if (!script) {
    console.error("usage: node tools/wasm_run.mjs script.py [file...]");
    process.exit(2);
}
const loadMicroPython = await findLoader();
const micropython = await loadMicroPython({ linebuffer: true, stdout: (line) => console.log(line) });
for (const file of files) micropython.FS.writeFile("/" + basename(file), readFileSync(file));
try {
    for (const piece of pieces(readFileSync(script, "utf8"))) micropython.runPython(piece);
} catch (error) {
    console.log(error.message.trimEnd());
    process.exitCode = 1;
}
