// Holds an AsyncAPI document against the reference parser: every diagnostic is printed, an error fails.
// Usage: NODE_PATH=<folder of node_modules> node validate.cjs FILE
const fs = require("node:fs");
const { Parser, DiagnosticSeverity } = require("@asyncapi/parser");

async function main(file) {
  const source = fs.readFileSync(file, "utf8");
  const { document, diagnostics } = await new Parser().parse(source, { source: file });
  let errors = 0;
  for (const { severity, path, message, range } of diagnostics) {
    const isError = severity === DiagnosticSeverity.Error;
    errors += isError;
    // Hints, such as that a newer version of the specification exists, are not ours to act on.
    if (severity <= DiagnosticSeverity.Warning) {
      console.error(`${file}:${range.start.line + 1}: ${isError ? "error" : "warning"}: ${path.join(".")}: ${message}`);
    }
  }
  if (errors > 0 || document === undefined) {
    throw new Error(`${file} is not a valid AsyncAPI document: ${errors} error(s)`);
  }
  const count = (list) => list.all().length;
  console.error(`${file}: valid; ${count(document.channels())} channels, ${count(document.operations())} operations, ` +
    `${count(document.allMessages())} messages`);
}

main(process.argv[2]).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
