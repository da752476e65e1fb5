import { berths } from '../../lib/arrivals';

// Built once, then rebuilt by the running server at most once a minute: this is what writes below `.next/server`.
export const revalidate = 60;

export default function Berths() {
  return (
    <>
      <h1>Berths</h1>
      <ul className="quay">
        {berths.map(({ number, ship }) => (
          <li key={number}>
            <strong>{number}</strong> {ship ?? <span className="free">free</span>}
          </li>
        ))}
      </ul>
    </>
  );
}
