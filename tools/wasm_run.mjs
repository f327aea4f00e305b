// Runs a MicroPython script on 32-bit MicroPython (WebAssembly), where objects are as big as on a board.
//
//     node tools/wasm_run.mjs script.py [file...]
//     node tools/wasm_run.mjs script.py folder...
//
// The files are put into the root folder of its file system, so the script can import them (.py and .mpy).
// With folders the script is run once for each of them, in a fresh MicroPython that has the folder's files; a
// script that raises then prints one line that begins with "raised", and the next folder has its turn.
// Memory is freed only after a script has returned, so this one is run in pieces: a line `gc.collect()` that
// is not indented ends a piece, and there the heap is really collected.
// Needs the npm package that `make peers` installs. It has no socket, no select and no os.urandom.
// The exit code is 1 when the script raised.

import { readFileSync, readdirSync, statSync } from "node:fs";
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

/** Runs the script in a fresh MicroPython that has these files; returns the text of what it raised, or null. */
async function run(loadMicroPython, script, files) {
    const micropython = await loadMicroPython({ linebuffer: true, stdout: (line) => console.log(line) });
    for (const file of files) micropython.FS.writeFile("/" + basename(file), readFileSync(file));
    try {
        for (const piece of pieces(readFileSync(script, "utf8"))) micropython.runPython(piece);
    } catch (error) {
        return error.message.trimEnd();
    }
    return null;
}

const [script, ...paths] = process.argv.slice(2);
if (!script) {
    console.error("usage: node tools/wasm_run.mjs script.py [file... | folder...]");
    process.exit(2);
}
const loadMicroPython = await findLoader();
if (paths.length && statSync(paths[0]).isDirectory()) {
    for (const folder of paths) {
        const raised = await run(loadMicroPython, script, readdirSync(folder).map((name) => join(folder, name)));
        if (raised !== null) console.log("raised " + raised.split("\n").at(-1));
    }
} else {
    const raised = await run(loadMicroPython, script, paths);
    if (raised !== null) {
        console.log(raised);
        process.exitCode = 1;
    }
}
