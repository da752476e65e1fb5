export const dynamic = 'force-dynamic';

// Only in tests: what a worker really sees, which /proc does not show once a program has changed it.
export function GET() {
  return Response.json({ pid: process.pid, cwd: process.cwd(), env: process.env });
}
