// What the GitHub action does at its step: install coracle, unless the runner has it, and create a cluster.
'use strict'

const { execFileSync } = require('node:child_process')
const { appendFileSync } = require('node:fs')
const path = require('node:path')

// GitHub passes inputs in variables like this one.
const input = name => (process.env[`INPUT_${name.toUpperCase()}`] ?? '').trim()
const run = (program, words, stdout = 'inherit') =>
  execFileSync(program, words, { stdio: ['ignore', stdout, 'inherit'], encoding: 'utf8' })
const tell = (file, line) => process.env[file] && appendFileSync(process.env[file], `${line}\n`)

try {
  try {
    run('coracle', ['version'], 'ignore')
  } catch {
    run(path.join(__dirname, '..', 'install.sh'), ['--yes'])
  }
  const name = input('name') || `job-${process.env.GITHUB_RUN_ID ?? process.pid}-${Math.random().toString(36).slice(2, 8)}`
  // Before the cluster: what is left of one that could not be created is deleted as well.
  tell('GITHUB_STATE', `name=${name}`)
  tell('GITHUB_STATE', `logs=${input('logs')}`)
  const words = ['create', 'cluster', '--name', name, '--timings']
  for (const option of ['config', 'image', 'wait', 'ttl']) {
    if (input(option)) words.push(`--${option}`, input(option))
  }
  run('coracle', words)
  const images = input('load').split(/\s+/).filter(Boolean)
  if (images.length) run('coracle', ['load', 'docker-image', '--name', name, ...images])
  tell('GITHUB_OUTPUT', `name=${name}`)
  tell('GITHUB_OUTPUT', `context=coracle-${name}`)
  tell('GITHUB_ENV', `CORACLE_CLUSTER_NAME=${name}`)
} catch (error) {
  // The command has said why.
  process.exitCode = error.status || 1
  if (error.status === undefined) console.error(error.message)
}
