// An OpenID provider for tests: node provider.mjs DIRECTORY
//
// DIRECTORY has node_modules, and for each run RUN (environment) a file RUN with {"port", "keys", "people"}: private
// keys (JWK, the first one signs) and claims by account. People are read for each token, keys at the start.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const { default: Provider } = await import(pathToFileURL(`${process.argv[2]}/node_modules/oidc-provider/lib/index.js`));
const read = () => JSON.parse(readFileSync(process.env.RUN, 'utf8'));
const { port, keys } = read();
const redirect = 'http://127.0.0.1/callback';

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'robot', client_secret: 'robot-secret', redirect_uris: [], response_types: [],
      grant_types: ['client_credentials'],
    },
    {
      client_id: 'native', application_type: 'native', token_endpoint_auth_method: 'none', redirect_uris: [redirect],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    },
    { client_id: 'space', client_secret: 'space secret/1', redirect_uris: [], response_types: [], grant_types: [] },
  ],
  jwks: { keys },
  cookies: { keys: ['for tests'] },
  scopes: ['openid', 'offline_access'],
  pkce: { required: () => true },
  ttl: { AccessToken: 300, ClientCredentials: 300 },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: (ctx, token) => read().people[token.accountId ?? token.clientId],
  rotateRefreshToken: true,
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:vos',
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'vos.read vos.write',
        audience: resource.replace(':opaque', ''),
        accessTokenFormat: resource.endsWith(':opaque') ? 'opaque' : 'jwt',
        jwt: { sign: { alg: keys[0].alg } },
      }),
    },
  },
});
provider.listen(port, '127.0.0.1', () => console.log('ready'));
