import './globals.css'; import Link from 'next/link';
export const metadata = { title: 'shop-web' };
export default function Layout({ children }: { children: React.ReactNode }) { return (<html lang="en"><body><nav><Link href="/">home</Link> <Link href="/about">about</Link> <Link href="/dashboard">dashboard</Link> <Link href="/flags">flags</Link></nav>{children}</body></html>); }
