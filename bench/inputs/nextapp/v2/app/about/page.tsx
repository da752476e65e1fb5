export default function About(){return <main><h1>About us</h1><p>Second release, with more words.</p><ul><li>fast</li><li>plain</li></ul></main>}
