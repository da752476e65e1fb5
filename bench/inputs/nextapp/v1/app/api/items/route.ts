import { Item, items } from '@/lib/schema'; import _ from 'lodash';
export async function GET() { return Response.json(_.groupBy(items, i => i.tags[0] ?? 'none')); }
export async function POST(r: Request) { const p = Item.safeParse(await r.json()); return p.success ? Response.json(p.data) : Response.json(p.error.issues, { status: 400 }); }
