'use client'; import { LineChart, Line, XAxis, YAxis, Tooltip } from 'recharts'; import { items } from '@/lib/schema'; import { formatDistance } from 'date-fns';
export default function Chart() { return <div><p>{formatDistance(items[0].at, items[9].at)}</p><LineChart width={600} height={300} data={items}><XAxis dataKey="name"/><YAxis/><Tooltip/><Line dataKey="price"/></LineChart></div>; }
