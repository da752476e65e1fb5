import { arrivals } from '../lib/arrivals';
import { office, version } from '../lib/release';

// Rendered per request: the name and the notice are the host's, not the build's.
export const dynamic = 'force-dynamic';

export default function Arrivals() {
  const { name, notice, environment } = office();
  return (
    <>
      <h1>{name}</h1>
      {notice && <p className="notice">{notice}</p>}
      <table>
        <thead>
          <tr>
            <th>Ship</th>
            <th>From</th>
            <th>Berth</th>
            <th>Cargo</th>
          </tr>
        </thead>
        <tbody>
          {arrivals.map(({ ship, from, berth, cargo }) => (
            <tr key={ship}>
              <td>{ship}</td>
              <td>{from}</td>
              <td>{berth}</td>
              <td>{cargo}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <footer>{`version ${version}, environment ${environment}`}</footer>
    </>
  );
}
