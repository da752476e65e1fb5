import Link from 'next/link';
import './globals.css';

export const metadata = {
  title: 'Harbour office',
  description: 'Arrivals, berths and notices',
  icons: { icon: '/anchor.svg' },
};

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <header>
          <img src="/anchor.svg" alt="" width="28" height="28" />
          <nav>
            <Link href="/">Arrivals</Link>
            <Link href="/berths">Berths</Link>
            <Link href="/about">About</Link>
          </nav>
        </header>
        <main>{children}</main>
      </body>
    </html>
  );
}
