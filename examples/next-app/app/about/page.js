export default function About() {
  return (
    <>
      <h1>About</h1>
      <p>The harbour office keeps the board of arrivals and the plan of the quay.</p>
    </>
  );
}
