// Postgres.js (npm postgres).
'use strict'
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const postgres = require('postgres')
const { assert, ask, authority, check, env, extra, failure, isBig, limit, logins, refusedByTls, rows, say, versionOf } = require('./contract')

const TOKEN = env('JWT_3000')

const connect = (token = TOKEN, { host, ca, servername } = {}) =>
  postgres({
    host: host ?? env('HOST'),
    port: Number(env('PORT')),
    user: env('USER'),
    database: env('DATABASE'),
    password: async () => token,
    // Checks certificate and name: what sslmode=verify-full is elsewhere.
    ssl: { ca: authority(ca ?? env('CA')), ...(servername && { servername }) },
    max: 1,
    onnotice: () => {},
  })

async function user(token, where) {
  const sql = connect(token, where)
  try {
    return (await sql`select current_user`)[0].current_user
  } finally {
    await sql.end({ timeout: 0 })
  }
}

async function main() {
  say({ version: versionOf('postgres') })
  await logins(user)

  await check('verify', async () => {
    refusedByTls(await failure(() => user(TOKEN, { ca: env('OTHER_CA') })))
    refusedByTls(await failure(() => user(TOKEN, { servername: 'db.example.com' })))
  })

  await check('refused', async () => {
    const error = await failure(() => user(env('JWT_EXPIRED')))
    assert.equal(error.code, '28P01')
    assert.match(error.detail, /the token expired/)
    assert.ok(error.hint)
    return '`code` 28P01, `detail` and `hint`'
  })

  const sql = connect()

  await check('prepared', async () => {
    for (const n of [21, 4]) assert.equal((await sql`select ${n}::int * 2 as n`)[0].n, n * 2)
    assert.ok((await sql`select count(*)::int as n from pg_prepared_statements`)[0].n >= 1)
  })

  await check('error', async () => {
    const session = await sql.reserve()
    await session.unsafe('begin')
    assert.equal((await failure(() => session.unsafe('select 1/0'))).code, '22012')
    assert.equal((await failure(() => session.unsafe('select 1'))).code, '25P02')
    await session.unsafe('rollback')
    assert.equal((await session`select 7 as n`)[0].n, 7)
    session.release()
  })

  await check('copy', async () => {
    await sql`create temp table t (n int, text text)`
    await pipeline(Readable.from([Buffer.from(rows)]), await sql`copy t from stdin`.writable())
    const taken = await (await sql`copy t to stdout`.readable()).toArray()
    assert.equal(Buffer.concat(taken).toString(), rows)
  })

  await check('cancel', async () => {
    const [{ pid }] = await sql`select pg_backend_pid() as pid`
    const query = sql.unsafe(env('SLEEP_SQL'))
    const failed = failure(() => query)
    await ask('sleeping')
    query.cancel()
    assert.equal((await failed).code, '57014')
    assert.equal((await sql`select pg_backend_pid() as pid`)[0].pid, pid)
  })

  await check('big', async () => isBig((await sql.unsafe(env('BIG_SQL'))).map((row) => row.line)))

  await check('notify', async () => {
    let tell
    const heard = new Promise((resolve) => (tell = resolve))
    const { unlisten } = await sql.listen('matrix', tell)
    await sql.notify('matrix', 'hello')
    assert.equal(await heard, 'hello')
    await unlisten()
  })

  await check('drain', async () => {
    await sql`select 1`
    await ask('restart')
    assert.equal(await user(TOKEN), env('USER'))
    assert.equal((await sql`select 7 as n`)[0].n, 7)
    return 'an idle session is replaced unseen'
  })
}

async function limits() {
  // Every connection of this program has come by its token so.
  extra('a fresh token for each new connection: `password` as a function', true)
  const there = { host: env('OTHER_HOST') }
  limit(
    'a host given as an IP address is not checked: the certificate is compared with `localhost` instead. Give a name,' +
      ' or say `ssl: { ca, servername }`',
    (await user(TOKEN, there)) === env('USER') &&
      /altnames/.test((await failure(() => user(TOKEN, { ...there, servername: 'db.example.com' }))).message),
  )
}

main().then(limits).then(() => process.exit(0))
