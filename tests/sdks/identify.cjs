// Speaks with Segment's official Node SDK. Usage: node identify.cjs HOST WRITE_KEY PREFIX
// Reads commands from standard input: "send FROM TO" identifies users PREFIX-FROM … PREFIX-(TO-1), waits until the SDK
// has them all delivered, and prints "sent FROM TO".
const { Analytics } = require('@segment/analytics-node')
const readline = require('node:readline')

const [host, writeKey, prefix] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host, flushAt: 10, flushInterval: 100, maxRetries: 30 })
analytics.on('error', (error) => console.error('sdk:', error.code, String(error.reason ?? '')))

const identify = (i) =>
  new Promise((resolve, reject) =>
    analytics.identify(
      {
        userId: `${prefix}-${i}`,
        traits: {
          email: `${prefix}-${i}@example.com`,
          firstName: 'Ada',
          lastName: 'Byron',
          createdAt: new Date('2024-03-05T09:30:00Z'),
          address: { city: 'London', postalCode: '0123' },
          logins: i,
          old_key: null,
        },
      },
      (error) => (error ? reject(error) : resolve())
    )
  )

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const [, from, to] = line.split(' ').map(Number)
  const calls = []
  for (let i = from; i < to; i++) calls.push(identify(i))
  await Promise.all(calls)
  console.log(`sent ${from} ${to}`)
}).on('close', () => analytics.closeAndFlush().then(() => process.exit(0)))
