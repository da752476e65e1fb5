import Link from 'next/link'; import { slugs } from '@/lib/posts'; import { Anchor, Ship } from 'lucide-react'; import { format } from 'date-fns';
export default function Home() { return <main><h1><Ship/> shop-web</h1><p>since {format(new Date(1700000000000), 'yyyy-MM-dd')}</p><ul>{slugs.map(s => <li key={s}><Anchor/> <Link href={`/blog/${s}`}>{s}</Link></li>)}</ul></main>; }
