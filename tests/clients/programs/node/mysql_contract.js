// What the programs for MySQL's protocol on node share: statements, and the checks that go alike with both drivers.
'use strict'
const fs = require('node:fs')
const path = require('node:path')
const c = require('./contract')

const { assert, ask, check, env, failure } = c
const ROW_LENGTH = 17 * 1024 * 1024
const TABLE = 'create temporary table t (n int primary key, text varchar(40)) character set utf8mb4'
const TOKEN = env('JWT_3000')
const DUPLICATE_KEY = 1062
const INTERRUPTED = 1317

/** Writes the file that is loaded, and gives the statement that loads it. */
function infile() {
  const file = path.join(env('DIR'), 'rows')
  fs.writeFileSync(file, c.rows)
  return { fs, path: file, sql: `load data local infile '${file}' into table t character set utf8mb4` }
}

/**
 * `driver` has `connect(token, where)`, `query(connection, sql)` for rows as arrays, `close(connection)`, and `id(connection)`.
 */
async function runChecks(driver) {
  const one = async (connection, sql) => (await driver.query(connection, sql))[0][0]
  const user = async (token, where) => {
    const connection = await driver.connect(token, where)
    const name = await one(connection, 'select current_user()')
    await driver.close(connection)
    return name.split('@')[0]
  }

  await c.logins(user, ['800', '3000', '16000', '20000'])

  await check('verify', async () => {
    c.refusedByTls(await failure(() => user(TOKEN, { ca: env('OTHER_CA') })))
    c.refusedByTls(await failure(() => user(TOKEN, { host: env('OTHER_HOST'), port: Number(env('OTHER_PORT')) })))
  })

  await check('refused', async () => {
    const error = await failure(() => user(env('JWT_EXPIRED')))
    assert.equal(error.errno, 1045)
    assert.ok(error.message.includes(env('REASON')), error.message)
    return `\`code\` ${error.code}, \`sqlState\` ${error.sqlState}, and the reason`
  })

  await check('error', async () => {
    const connection = await driver.connect(TOKEN)
    await driver.query(connection, TABLE)
    await driver.query(connection, 'begin')
    await driver.query(connection, "insert into t values (1, 'one')")
    const error = await failure(() => driver.query(connection, "insert into t values (1, 'two')"))
    assert.deepEqual([error.errno, error.sqlState], [DUPLICATE_KEY, '23000'])
    await driver.query(connection, 'rollback')
    assert.equal(Number(await one(connection, 'select count(*) from t')), 0)
    await driver.close(connection)
  })

  await check('cancel', async () => {
    const [connection, other] = [await driver.connect(TOKEN), await driver.connect(TOKEN)]
    const query = failure(() => driver.query(connection, env('SLEEP_SQL')))
    await ask('sleeping')
    await driver.query(other, `kill query ${driver.id(connection)}`)
    assert.equal((await query).errno, INTERRUPTED)
    assert.equal(Number(await one(connection, 'select 7')), 7)
    await driver.close(connection)
    await driver.close(other)
    return '`KILL QUERY` with the id of `threadId`'
  })

  await check('big', async () => {
    const connection = await driver.connect(TOKEN)
    c.isBig((await driver.query(connection, env('BIG_SQL'))).map((row) => row[0]))
    await driver.close(connection)
  })

  await check('row', async () => {
    const connection = await driver.connect(TOKEN)
    const text = await one(connection, `select repeat('x', ${ROW_LENGTH})`)
    assert.equal(text.length, ROW_LENGTH)
    assert.match(text, /^x+$/)
    await driver.close(connection)
  })

  await check('drain', async () => {
    const idle = await driver.connect(TOKEN)
    await one(idle, 'select 7')
    await ask('restart')
    const error = await failure(() => one(idle, 'select 1'))
    assert.equal(await user(TOKEN), env('USER'))
    return `\`${error.code}\`: ${error.message.slice(0, 120)}`
  })
}

module.exports = { ...c, TABLE, infile, runChecks }
