export default function About() {
  return (
    <>
      <h1>About</h1>
      <p>The harbour office keeps the board of arrivals, the plan of the quay and, since this year, the tide tables.</p>
    </>
  );
}
