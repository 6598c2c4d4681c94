// A real OpenID provider for the tests: https for clients and the proxy, http on loopback for the stand-in of AWS STS.
//
//   node issuer.mjs CERTIFICATE KEY AUDIENCE
//
// Says "<issuer URL> <URL of the same pages over http>" in one line when it can be asked.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const [certificate, key, audience] = process.argv.slice(2);

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const signing = { ...privateKey.export({ format: 'jwk' }), kid: 'test', alg: 'RS256', use: 'sig' };

const resource = { scope: 'db', audience, accessTokenFormat: 'jwt', accessTokenTTL: 900, jwt: { sign: { alg: 'RS256' } } };

const provider = (issuer) => new Provider(issuer, {
  jwks: { keys: [signing] },
  cookies: { keys: ['only for tests'] },
  scopes: ['openid', 'offline_access', 'db'],
  clients: [
    {
      // psql: the device flow, no secret.
      client_id: 'psql',
      token_endpoint_auth_method: 'none',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
      response_types: [],
      redirect_uris: [],
      application_type: 'native',
    },
    {
      // pgpassport: a code in the person's browser or a device code, and refresh tokens that rotate. The provider ignores
      // the port of the redirect, and demands PKCE.
      client_id: 'pgpassport',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
      application_type: 'native',
    },
    {
      // A program that has the right to tokens of its own.
      client_id: 'alice',
      client_secret: 'only for tests',
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
    },
  ],
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: true }, // pages for login and consent that take any name
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => 'urn:database',
      useGrantedResource: async () => true,
      getResourceServerInfo: async () => resource,
    },
  },
  formats: {
    customizers: {
      // A program's token names the program.
      jwt: async (_, token, jwt) => {
        if (token.kind === 'ClientCredentials') jwt.payload.sub = token.clientId;
        return jwt;
      },
    },
  },
  ttl: { AccessToken: 900, ClientCredentials: 900, DeviceCode: 600, Grant: 900, IdToken: 900, Interaction: 600, RefreshToken: 900,
    Session: 900 },
});

const listening = (server) => new Promise((resolve) => {
  server.listen(0, '127.0.0.1', () => resolve(server.address().port));
});

let answer = (_, response) => response.writeHead(503).end();
const secure = https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) },
  (request, response) => answer(request, response));
const plain = http.createServer((request, response) => answer(request, response));
const issuer = `https://localhost:${await listening(secure)}`;
const inner = `http://127.0.0.1:${await listening(plain)}`;
answer = provider(issuer).callback();
console.log(`${issuer} ${inner}`);
