// The commands that join a site, as somebody at the site types them. The token is in none of them: what is on a command line is seen by
// everybody who can list processes, and stays in the shell's history.

export const systems = ['linux', 'windows'] as const;
export type System = (typeof systems)[number];

/** Minutes that a token may be valid for, of which the page offers some. */
export const validities = [15, 60, 240, 1440] as const;

/** The hub's listener as a site reaches it: one that listens on every address is named as this page's own host. */
export function reachableHub(hub: string, pageHost: string): string {
  return hub
    .split(',')
    .map((part) => part.trim().replace(/^(0\.0\.0\.0|\[::\]|)(?=:\d+$)/, pageHost))
    .join(',');
}

/** A word as the shell takes it, whatever it holds. */
function quoted(word: string, system: System): string {
  if (/^[\w.:,-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", system === 'linux' ? `'\\''` : `''`)}'`;
}

export function joinCommands(system: System, hub: string): readonly [string, string, string] {
  const to = quoted(hub, system);
  if (system === 'windows') {
    return [
      "Read-Host 'Token' | Out-File -Encoding ascii token.txt",
      `.\\hashinsight-agent.exe enrol --hub ${to} --token-file token.txt`,
      'Remove-Item token.txt; .\\hashinsight-agent.exe run --targets 192.168.1.0/24',
    ];
  }
  return [
    '(umask 077; cat > token.txt)',
    `sudo hashinsight-agent enrol --hub ${to} --token-file token.txt`,
    'rm token.txt; sudo hashinsight-agent run --targets 192.168.1.0/24',
  ];
}
