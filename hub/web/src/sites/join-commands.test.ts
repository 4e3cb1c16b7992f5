import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { joinCommands, reachableHub, systems } from './join-commands';

it('names the hub as the site reaches it', () => {
  expect(reachableHub('hub.example.com:5443', '10.0.0.9')).toBe('hub.example.com:5443');
  expect(reachableHub('0.0.0.0:5443', '10.0.0.9')).toBe('10.0.0.9:5443');
  expect(reachableHub('[::]:5443', 'hub.lan')).toBe('hub.lan:5443');
  expect(reachableHub(':5443', 'hub.lan')).toBe('hub.lan:5443');
  expect(reachableHub('a.example:5443, b.example:5443', 'hub.lan')).toBe('a.example:5443,b.example:5443');
  expect(reachableHub('10.0.0.0:5443', 'hub.lan')).toBe('10.0.0.0:5443');
});

it('is three commands on each system, and the token is in none', () => {
  for (const system of systems) {
    const all = joinCommands(system, 'hub.example.com:5443');
    expect(all).toHaveLength(3);
    expect(all.join('\n')).toContain('enrol --hub hub.example.com:5443 --token-file token.txt');
    expect(all.join('\n')).not.toContain('hsi_');
  }
});

it.each(["it's; touch x", '$(touch x)', '`touch x`', 'a b'])('hands %s to the agent as one word', (hub) => {
  const [, join] = joinCommands('linux', hub);
  const words = execFileSync('sh', ['-c', `${join.replace('sudo hashinsight-agent', "printf '%s\\n'")}`]).toString().split('\n');
  expect(words[2]).toBe(hub);
  expect(joinCommands('windows', "it's")[1]).toContain("--hub 'it''s' ");
});
