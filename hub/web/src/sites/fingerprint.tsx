// A fingerprint in groups that two people can compare over the telephone.

export function Fingerprint({ of }: { of: string }) {
  return (
    <p className="fingerprint">
      {of.split('-').map((group, i) => (
        // The groups never move: their place is their name.
        <span key={i}>{group} </span>
      ))}
    </p>
  );
}
