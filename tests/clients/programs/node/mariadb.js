// node mariadb.
'use strict'
const mariadb = require('mariadb')
const c = require('./mysql_contract')

const TOKEN = c.env('JWT_3000')

const options = (token, { host, port, ca, ...more } = {}) => ({
  host: host ?? c.env('HOST'),
  port: port ?? Number(c.env('PORT')),
  user: c.env('USER'),
  password: token,
  database: c.env('DATABASE'),
  ssl: { ca: c.authority(ca ?? c.env('CA')) },
  bigIntAsNumber: true,
  ...more,
})

const driver = {
  async connect(token, where) {
    const connection = await mariadb.createConnection(options(token, where))
    connection.on('error', () => {}) // what ends the session is told to the next statement, too
    return connection
  },
  query: (connection, sql) => connection.query({ sql, rowsAsArray: true }),
  close: (connection) => connection.end(),
  id: (connection) => connection.threadId,
}

async function main() {
  c.say({ version: c.versionOf('mariadb') })
  await c.runChecks(driver)

  await c.check('prepared', async () => {
    const connection = await driver.connect(TOKEN)
    const statement = await connection.prepare('select ? * 2 as twice')
    const found = []
    for (const n of [21, 4]) found.push(Number((await statement.execute([n]))[0].twice))
    c.assert.deepEqual(found, [42, 8])
    statement.close()
    await connection.end()
    return '`prepare()`'
  })

  await c.check('multi', async () => {
    const connection = await driver.connect(TOKEN, { multipleStatements: true })
    const found = await driver.query(connection, 'select 1; select 2; select 3')
    c.assert.deepEqual(JSON.parse(JSON.stringify(found)), [[[1]], [[2]], [[3]]])
    await connection.end()
    return '`multipleStatements: true`'
  })

  await c.check('infile', async () => {
    const { sql } = c.infile()
    const connection = await driver.connect(TOKEN, { permitLocalInfile: true })
    await driver.query(connection, c.TABLE)
    await driver.query(connection, sql)
    const rows = await driver.query(connection, 'select n, text from t order by n')
    c.assert.equal(rows.map(([n, text]) => `${n}\t${text}\n`).join(''), c.rows)
    await connection.end()
    return '`permitLocalInfile: true`'
  })

  await c.check('reset', async () => {
    const connection = await driver.connect(TOKEN)
    await driver.query(connection, 'set @kept = 7')
    await connection.reset()
    c.assert.deepEqual((await driver.query(connection, 'select @kept'))[0][0], null)
    await connection.end()
    return '`reset()`'
  })

  // Without a wait for the answers.
  const connection = await driver.connect(TOKEN)
  const sums = await Promise.all(Array.from({ length: 50 }, (_, n) => driver.query(connection, `select ${n} + 1`)))
  c.extra('50 statements in a pipeline', sums.every((rows, n) => Number(rows[0][0]) === n + 1))
  await connection.end()
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
