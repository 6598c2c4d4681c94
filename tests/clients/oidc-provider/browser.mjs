// What a person does in a browser to sign in: opens the page, types the code of a device flow, logs in, agrees. A sign-in
// without such a code ends at the page of the program that waits for the redirect.
//
//   NODE_EXTRA_CA_CERTS=ca.pem node browser.mjs PAGE CODE NAME
const [page, code, name] = process.argv.slice(2);
const cookies = new Map();

// Follows redirects by hand, for the cookies' sake.
async function open(url, body) {
  for (let redirects = 0; redirects < 10; redirects += 1) {
    const response = await fetch(url, {
      method: body === undefined ? 'GET' : 'POST',
      body,
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([key, value]) => `${key}=${value}`).join('; ') },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair] = cookie.split(';');
      const equals = pair.indexOf('=');
      cookies.set(pair.slice(0, equals), pair.slice(equals + 1));
    }
    const location = response.headers.get('location');
    if (!location) return { url, status: response.status, text: await response.text() };
    url = new URL(location, url).href;
    body = undefined;
  }
  throw new Error('too many redirects');
}

const attribute = (tag, wanted) => tag.match(new RegExp(`\\b${wanted}="([^"]*)"`))?.[1];
const typed = { user_code: code, login: name, password: 'any' };

let shown = await open(page);
for (let step = 0; step < 6; step += 1) {
  const form = shown.text.match(/<form[\s\S]*?<\/form>/)?.[0];
  if (!form) break;
  const fields = new URLSearchParams();
  for (const [input] of form.matchAll(/<(?:input|button)\b[^>]*>/g)) {
    const field = attribute(input, 'name');
    if (field && field !== 'abort') fields.set(field, typed[field] ?? attribute(input, 'value') ?? '');
  }
  const action = (attribute(form, 'action') ?? shown.url).replaceAll('&amp;', '&');
  shown = await open(new URL(action, shown.url).href, fields);
}
if (shown.status !== 200 || !/success|sign-in received/i.test(shown.text)) {
  console.error(`the last page was ${shown.status} ${shown.url}:\n${shown.text.replace(/<[^>]*>/g, ' ')}`);
  process.exit(1);
}
