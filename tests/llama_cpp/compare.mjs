// Loads GGUF files of ours into llama.cpp and compares its greedy next tokens,
// and its tokens of the text, with ours.
//
//     node compare.mjs EXPECTED.json...
//
// Each EXPECTED.json is what next_tokens printed: the model's file, the text,
// the tokens, the likeliest next token behind each, and the share of these
// that has to agree.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const llama = await getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
});
let failed = 0;

for (const path of process.argv.slice(2)) {
    const expected = JSON.parse(readFileSync(path, "utf8"));
    const name = basename(expected.model);
    const model = await llama.loadModel({ modelPath: expected.model });
    const context = await model.createContext({ contextSize: 256 });
    const sequence = context.getSequence();
    const found = await sequence.controlledEvaluate(
        expected.tokens.map((token) => [
            token,
            { generateNext: { token: true, options: { temperature: 0 } } },
        ]),
    );
    const count = expected.next.length;
    const same = expected.next.filter(
        (token, i) => found[i]?.next?.token === token,
    ).length;
    // The text's tokens, without the one that begins it.
    const words = model.tokenize(expected.text);
    const start = expected.tokens.length - expected.words;
    const ours = expected.tokens.slice(start).join(" ");
    const theirs = words.slice(0, expected.words).join(" ");

    console.log(
        `  ${name}: ${((100 * same) / count).toFixed(1)} % of ${count} next ` +
            `tokens are ours, ${100 * expected.least} % have to be`,
    );
    if (count === 0 || same < expected.least * count) {
        console.log(`FAIL ${name}: next tokens`);
        failed++;
    }
    if (ours !== theirs) {
        console.log(`FAIL ${name}: the tokens of the text are others`);
        failed++;
    }
    await context.dispose();
    await model.dispose();
}
process.exit(failed === 0 && process.argv.length > 2 ? 0 : 1);
