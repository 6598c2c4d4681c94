// node-postgres (npm pg), with its pool.
'use strict'
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { once } = require('node:events')
const pg = require('pg')
const copy = require('pg-copy-streams')
const { assert, ask, authority, check, env, extra, failure, isBig, logins, refusedByTls, rows, say, versionOf } = require('./contract')

const TOKEN = env('JWT_3000')

const options = (token = TOKEN, { host, ca } = {}) => ({
  host: host ?? env('HOST'),
  port: Number(env('PORT')),
  user: env('USER'),
  database: env('DATABASE'),
  password: token,
  // Checks certificate and name: what sslmode=verify-full is elsewhere.
  ssl: { ca: authority(ca ?? env('CA')) },
})

async function connect(token, where) {
  const client = new pg.Client(options(token, where))
  // Without a listener the end of an idle session is an uncaught exception.
  client.on('error', (error) => (client.firstError ??= error))
  await client.connect()
  return client
}

async function one(client, sql, values) {
  return Object.values((await client.query(sql, values)).rows[0])[0]
}

async function user(token, where) {
  const client = await connect(token, where)
  try {
    return await one(client, 'select current_user')
  } finally {
    await client.end()
  }
}

async function main() {
  say({ version: versionOf('pg') })
  await logins(user)

  await check('verify', async () => {
    refusedByTls(await failure(() => user(TOKEN, { ca: env('OTHER_CA') })))
    refusedByTls(await failure(() => user(TOKEN, { host: env('OTHER_HOST') })))
  })

  await check('refused', async () => {
    const error = await failure(() => connect(env('JWT_EXPIRED')))
    assert.equal(error.code, '28P01')
    assert.match(error.detail, /the token expired/)
    assert.ok(error.hint)
    return '`code` 28P01, `detail` and `hint`'
  })

  await check('prepared', async () => {
    const client = await connect()
    for (const n of [21, 4]) {
      assert.equal(await one(client, { name: 'double', text: 'select $1::int * 2', values: [n] }), n * 2)
    }
    assert.equal(await one(client, 'select count(*)::int from pg_prepared_statements'), 1)
    await client.end()
  })

  await check('error', async () => {
    const client = await connect()
    await client.query('begin')
    assert.equal((await failure(() => client.query('select 1/0'))).code, '22012')
    assert.equal((await failure(() => client.query('select 1'))).code, '25P02')
    await client.query('rollback')
    assert.equal(await one(client, 'select 7'), 7)
    await client.end()
  })

  await check('copy', async () => {
    const client = await connect()
    await client.query('create temp table t (n int, text text)')
    await pipeline(Readable.from([rows]), client.query(copy.from('copy t from stdin')))
    const taken = await client.query(copy.to('copy t to stdout')).toArray()
    assert.equal(Buffer.concat(taken).toString(), rows)
    await client.end()
    return 'with pg-copy-streams'
  })

  await check('cancel', async () => {
    const client = await connect()
    const pid = client.processID
    const query = new pg.Query(env('SLEEP_SQL'))
    const failed = once(query, 'error')
    query.on('end', () => query.emit('error', new Error('it did not fail')))
    client.query(query)
    await ask('sleeping')
    new pg.Client(options()).cancel(client, query)
    assert.equal((await failed)[0].code, '57014')
    assert.equal(await one(client, 'select pg_backend_pid()'), pid)
    await client.end()
    return '`client.cancel()`'
  })

  await check('big', async () => {
    const client = await connect()
    isBig((await client.query(env('BIG_SQL'))).rows.map((row) => row.line))
    await client.end()
  })

  await check('notify', async () => {
    const [listener, speaker] = [await connect(), await connect()]
    await listener.query('listen matrix')
    const heard = once(listener, 'notification')
    await speaker.query("notify matrix, 'hello'")
    assert.equal((await heard)[0].payload, 'hello')
    await listener.end()
    await speaker.end()
  })

  await check('drain', async () => {
    const pool = new pg.Pool({ ...options(), password: async () => TOKEN })
    pool.on('error', () => {})
    await pool.query('select 1')
    const idle = await connect()
    await ask('restart')
    const error = await failure(() => idle.query('select 1'))
    const said = idle.firstError?.code ?? error.code ?? error.message
    assert.equal(await user(TOKEN), env('USER'))
    assert.equal((await pool.query('select 7 as n')).rows[0].n, 7)
    await pool.end()
    extra('a fresh token for each new connection of a pool: `password` as a function', true)
    return `\`error\` event with \`code\` ${said}; a pool connects again by itself`
  })
}

main().then(() => process.exit(0))
