// Speaks with one of the Node SDKs. Usage: node node.cjs PACKAGE HOST WRITE_KEY PREFIX RETRIES
// RETRIES is the SDK's own setting, or "default". Reads commands from standard input: "send FROM TO" identifies for each
// number the known user PREFIX-N and the anonymous PREFIX-anonymous-N, waits until the SDK is done with them all, and
// prints "sent FROM TO", or "failed FROM TO: REASON" if it gave up on any.
const readline = require('node:readline')

const [name, host, writeKey, prefix, retriesWanted] = process.argv.slice(2)
const retries = retriesWanted === 'default' ? undefined : Number(retriesWanted)
const sdk = require(name)

// Without an error handler the classic SDK and RudderStack's end the process when a call is refused.
const errorHandler = () => {}
const timing = { flushAt: 10, flushInterval: 50 }
const makers = {
  '@segment/analytics-node': () => new sdk.Analytics({ writeKey, host, maxRetries: retries, ...timing }),
  'analytics-node': () => new sdk(writeKey, { host, retryCount: retries, errorHandler, ...timing }),
  '@rudderstack/rudder-sdk-node': () =>
    new sdk(writeKey, { dataPlaneUrl: host, retryCount: retries, errorHandler, logLevel: 'none', ...timing }),
}
const analytics = makers[name.replace(/-\d$/, '')]()

const identify = (id, n) =>
  new Promise((resolve, reject) => {
    const [user] = Object.values(id)
    const traits = {
      email: `${user}@example.com`,
      firstName: 'Ada',
      lastName: 'Byron',
      createdAt: new Date('2024-03-05T09:30:00Z'),
      address: { city: 'London', postalCode: '0123' },
      logins: n,
      old_key: null,
    }
    // Salesforce takes only calls that name it.
    const integrations = { All: true, Salesforce: true }
    analytics.identify({ ...id, traits, integrations }, (error) => (error ? reject(error) : resolve()))
  })

const send = async (from, to) => {
  const calls = []
  for (let n = from; n < to; n++) {
    calls.push(identify({ userId: `${prefix}-${n}` }, n), identify({ anonymousId: `${prefix}-anonymous-${n}` }, n))
  }
  const failed = (await Promise.allSettled(calls)).find((call) => call.status === 'rejected')
  const reason = failed?.reason?.reason ?? failed?.reason
  console.log(failed ? `failed ${from} ${to}: ${reason?.message ?? reason}` : `sent ${from} ${to}`)
}

readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => send(...line.split(' ').slice(1).map(Number)))
  .on('close', () => process.exit(0))
console.log('listening')
