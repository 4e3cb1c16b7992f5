// Compiles src/AnchorLog.sol with fixed settings into out/: the ABI, the creation code and the runtime code, which the Go side
// embeds. `--check` compiles and compares with what is committed; it writes nothing. The code carries no metadata, so its bytes
// depend on the compiler, these settings and the sources alone.
import { readFileSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const solc = require("solc");

const here = new URL(".", import.meta.url);
const source = "src/AnchorLog.sol";
const want = "0.8.30+";
if (!solc.version().startsWith(want)) {
  console.error(`solc is ${solc.version()}, the committed code was made with ${want}: run npm ci in hub/contracts`);
  process.exit(1);
}

const input = {
  language: "Solidity",
  sources: { [source]: { content: readFileSync(new URL(source, here), "utf8") } },
  settings: {
    evmVersion: "shanghai", // nothing newer is used, and custom networks may be older than Base
    optimizer: { enabled: true, runs: 1000000 }, // called once an hour for years, deployed once
    viaIR: true,
    metadata: { appendCBOR: false, bytecodeHash: "none" },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"] } },
  },
};

const output = JSON.parse(solc.compile(JSON.stringify(input), {
  import(path) {
    if (!path.startsWith("@openzeppelin/contracts/")) return { error: `not allowed: ${path}` };
    return { contents: readFileSync(new URL(`node_modules/${path}`, here), "utf8") };
  },
}));
const problems = output.errors ?? [];
if (problems.length > 0) {
  for (const p of problems) console.error(p.formattedMessage);
  process.exit(1); // warnings too
}

const c = output.contracts[source].AnchorLog;
if (Object.keys(c.evm.deployedBytecode.immutableReferences ?? {}).length > 0) {
  console.error("AnchorLog has immutables: its runtime code would differ from one deployment to the next, and verifiers know one hash");
  process.exit(1);
}
const files = {
  "out/AnchorLog.abi.json": JSON.stringify(c.abi, null, 2) + "\n",
  "out/AnchorLog.bin": c.evm.bytecode.object + "\n",
  "out/AnchorLog.runtime.bin": c.evm.deployedBytecode.object + "\n",
};

let differs = false;
for (const [name, text] of Object.entries(files)) {
  const at = new URL(name, here);
  if (process.argv.includes("--check")) {
    let committed = "";
    try { committed = readFileSync(at, "utf8"); } catch { /* missing differs too */ }
    if (committed !== text) {
      console.error(`${name} is not what ${source} compiles to: run npm run build in hub/contracts, then go generate ./internal/anchor/... in hub`);
      differs = true;
    }
  } else {
    writeFileSync(at, text);
  }
}
const code = createHash("sha256").update(Buffer.from(c.evm.deployedBytecode.object, "hex")).digest("hex");
console.log(`AnchorLog: runtime code of ${c.evm.deployedBytecode.object.length / 2} bytes, SHA-256 ${code}`);
process.exit(differs ? 1 : 0);
