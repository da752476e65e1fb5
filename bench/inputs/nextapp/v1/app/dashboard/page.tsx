import Chart from './chart'; export const dynamic = 'force-dynamic'; export default function Page() { return <main><h1>Dashboard</h1><Chart/></main>; }
