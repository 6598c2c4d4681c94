// node mysql2.
'use strict'
const mysql = require('mysql2/promise')
const c = require('./mysql_contract')

const TOKEN = c.env('JWT_3000')

const options = (token, { host, port, ca, ...more } = {}) => ({
  host: host ?? c.env('HOST'),
  port: port ?? Number(c.env('PORT')),
  user: c.env('USER'),
  password: token,
  database: c.env('DATABASE'),
  enableCleartextPlugin: true,
  ssl: { ca: c.authority(ca ?? c.env('CA')), verifyIdentity: true },
  ...more,
})

const driver = {
  async connect(token, where) {
    const connection = await mysql.createConnection(options(token, where))
    connection.on('error', () => {}) // what ends the session is told to the next statement, too
    return connection
  },
  query: async (connection, sql) => (await connection.query({ sql, rowsAsArray: true }))[0],
  close: (connection) => connection.end(),
  id: (connection) => connection.threadId,
}

async function main() {
  c.say({ version: c.versionOf('mysql2') })
  await c.runChecks(driver)

  await c.check('prepared', async () => {
    const connection = await driver.connect(TOKEN)
    const found = []
    for (const n of [21, 4]) {
      found.push(Number((await connection.execute({ sql: 'select ? * 2', rowsAsArray: true }, [n]))[0][0][0]))
    }
    c.assert.deepEqual(found, [42, 8])
    await connection.end()
    return '`execute()`'
  })

  await c.check('multi', async () => {
    const connection = await driver.connect(TOKEN, { multipleStatements: true })
    c.assert.deepEqual(await driver.query(connection, 'select 1; select 2; select 3'), [[[1]], [[2]], [[3]]])
    await connection.end()
    return '`multipleStatements: true`'
  })

  await c.check('infile', async () => {
    const { sql, path, fs } = c.infile()
    const connection = await driver.connect(TOKEN)
    await driver.query(connection, c.TABLE)
    await connection.query({ sql, infileStreamFactory: () => fs.createReadStream(path) })
    const rows = await driver.query(connection, 'select n, text from t order by n')
    c.assert.equal(rows.map(([n, text]) => `${n}\t${text}\n`).join(''), c.rows)
    await connection.end()
    return '`infileStreamFactory`'
  })

  await c.check('reset', async () => {
    const connection = await driver.connect(TOKEN)
    await driver.query(connection, 'set @kept = 7')
    await new Promise((done, failed) =>
      connection.connection.reset((error) => (error ? failed(error) : done())))
    c.assert.deepEqual(await driver.query(connection, 'select @kept'), [[null]])
    await connection.end()
    return '`reset()`'
  })

  const without = await c.failure(() => driver.connect(TOKEN, { enableCleartextPlugin: false }))
  c.limit('`enableCleartextPlugin: true` is necessary', /cleartext|mysql_clear_password/i.test(without.message))
  const pool = mysql.createPool({ ...options(TOKEN), connectionLimit: 2 })
  c.extra('a pool (`createPool`)', (await driver.query(pool, 'select 7'))[0][0] === 7)
  await pool.end()
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
