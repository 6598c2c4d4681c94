// The contract between a client program on node and its runner: environment in, one JSON line per check out.
'use strict'
const crypto = require('node:crypto')
const fs = require('node:fs')
const assert = require('node:assert/strict')
const readline = require('node:readline')

const env = (name) => process.env['MATRIX_' + name]
const say = (fields) => process.stdout.write(JSON.stringify(fields) + '\n')
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()

async function ask(what) {
  say({ await: what })
  if ((await answers.next()).done) throw new Error('the runner has gone')
}

async function check(name, work) {
  try {
    say({ check: name, result: 'ok', note: (await work()) ?? '' })
  } catch (error) {
    say({ check: name, result: 'failed', note: `${error.name}: ${error.message}`.slice(0, 600) })
  }
}

/** `user(token, where)` must give the name of the database user. */
async function logins(user, sizes = ['800', '3000', '16000']) {
  for (const size of sizes) {
    await check('login-' + size, async () => assert.equal(await user(env('JWT_' + size), {}), env('USER')))
  }
}

async function failure(work) {
  try {
    await work()
  } catch (error) {
    return error
  }
  throw new Error('it did not fail')
}

module.exports = {
  assert,
  ask,
  check,
  env,
  failure,
  logins,
  say,
  absent: (name, why) => say({ check: name, result: 'absent', note: why }),
  limit: (text, shown) => say({ limit: text, result: shown ? 'ok' : 'failed' }),
  extra: (text, shown) => say({ extra: text, result: shown ? 'ok' : 'failed' }),
  authority: (file) => fs.readFileSync(file, 'utf8'),
  versionOf: (name) => JSON.parse(fs.readFileSync(`${process.env.NODE_PATH}/${name}/package.json`)).version,
  refusedByTls: (error) => assert.match(error.message, /certificate|altnames|verif/i),
  rows: Array.from({ length: 10000 }, (_, n) => `${n}\ttext, ${n} ü\n`).join(''),
  isBig(lines) {
    const digest = crypto.createHash('sha256')
    let length = 0
    for (const line of lines) {
      digest.update(line)
      length += line.length
    }
    assert.equal(length, 51200 * 1024)
    assert.equal(digest.digest('hex'), env('BIG_SHA256'))
  },
}
