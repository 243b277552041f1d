// Ids of the texts by npm's @huggingface/tokenizers, for byte-level BPE.
//
// usage: node make_npm.mjs MODULE TOKENIZERS OUT
//
//   MODULE      the package's directory
//   TOKENIZERS  a directory with gpt2/vocab.json, gpt2/merges.txt and
//               gpt-neox/tokenizer.json
//   OUT         where NAME.json goes, one file a tokenizer
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const [moduleDirectory, tokenizers, out] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
const pack = json(join(moduleDirectory, 'package.json'));
const { Tokenizer } = await import(
  pathToFileURL(join(moduleDirectory, pack.main)));

// Broken UTF-8 is for make_bytes.py: here it would become U+FFFD first.
const texts = json(join(here, 'texts.json')).filter((t) => 'text' in t);
const recipes = json(join(here, 'recipes.json'));

function tokenizer(recipe) {
  if (recipe.file)
    return json(join(tokenizers, recipe.file));
  const vocab = json(join(tokenizers, recipe.vocab));
  const merges = readFileSync(join(tokenizers, recipe.merges), 'utf8')
    .split('\n').filter((line) => line !== '').map((line) => line.split(' '));
  return {
    ...recipe.tokenizer,
    model: { ...recipe.tokenizer.model, vocab, merges },
  };
}

for (const [name, recipe] of Object.entries(recipes)) {
  const made = new Tokenizer(tokenizer(recipe), {});
  const ids = {};
  for (const { name: text, text: content } of texts)
    ids[text] = made.encode(content, { add_special_tokens: false }).ids;
  const result = { made_by: `${pack.name} ${pack.version}`, ids };
  writeFileSync(join(out, `${name}.json`),
    JSON.stringify(result, null, 0).replace(/\],"/g, '],\n"') + '\n');
}
