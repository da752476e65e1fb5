import { office, version } from '../../../lib/release';

export const dynamic = 'force-dynamic';

export function GET() {
  return Response.json(
    { status: 'ok', version, harbour: office().name },
    { headers: { 'cache-control': 'no-store' } },
  );
}
