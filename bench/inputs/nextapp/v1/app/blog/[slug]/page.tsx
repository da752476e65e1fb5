import { post, slugs } from '@/lib/posts';
export function generateStaticParams() { return slugs.map(slug => ({ slug })); }
export default async function Blog({ params }: { params: Promise<{ slug: string }> }) { const p = post((await params).slug); return <article dangerouslySetInnerHTML={{ __html: p.html }} />; }
