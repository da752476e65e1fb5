import { z } from 'zod';
export const Item = z.object({ id: z.number().int(), name: z.string().min(1).max(80), price: z.number().nonnegative(), tags: z.array(z.string()).default([]), at: z.coerce.date() });
export type Item = z.infer<typeof Item>;
export const items: Item[] = Array.from({ length: 40 }, (_, i) => Item.parse({ id: i, name: `Item ${i}`, price: (i * 37 % 101) / 2, tags: i % 3 ? ['sale'] : [], at: 1700000000000 + i * 86400000 }));
