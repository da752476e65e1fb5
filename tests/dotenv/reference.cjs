// Prints what the real packages make of every case, as one JSON document.
const fs = require('fs')
const path = require('path')
const here = process.argv[2]
const { createRequire } = require('module')
const load = createRequire(path.join(process.cwd(), 'package.json'))
const dotenv = load('dotenv')
const { expand } = load('dotenv-expand')

function each (dir, read) {
  const names = fs.readdirSync(path.join(here, dir)).filter(name => name.endsWith('.env')).sort()
  return Object.fromEntries(names.map(name => [name, read(fs.readFileSync(path.join(here, dir, name), 'utf8'))]))
}

// As dotenv-cli calls it: what is expanded and the environment are the same object.
function expanded (text) {
  const env = dotenv.parse(text)
  return expand({ parsed: env, processEnv: env }).parsed
}

const answer = { cases: each('cases', text => dotenv.parse(text)), expand: each('expand', expanded) }
process.stdout.write(JSON.stringify(answer, null, 1) + '\n')
