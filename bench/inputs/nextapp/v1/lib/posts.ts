import { marked } from 'marked';
const words = 'harbour release anchor build hash layer symlink health rollback drift mirror watcher artifact commit'.split(' ');
export const slugs = Array.from({ length: 30 }, (_, i) => `post-${i}`);
export function post(slug: string) { const n = Number(slug.slice(5)); let s = n * 2654435761 >>> 0; const w = () => words[(s = (s * 1664525 + 1013904223) >>> 0) % words.length];
  const md = `# ${w()} ${w()}\n\n` + Array.from({ length: 12 }, () => Array.from({ length: 60 }, w).join(' ')).join('\n\n'); return { slug, html: marked.parse(md) as string }; }
