import { office, version } from '../../../lib/release';

export const dynamic = 'force-dynamic';

// A release that passes a trial run and fails in service: the kind that a preflight cannot catch.
export function GET() {
  const onTrial = process.env.LANDFALL_PREFLIGHT === '1';
  const sound = onTrial && process.env.HARBOUR_DEFECT !== 'always';
  return Response.json(
    { status: sound ? 'ok' : 'broken', version, harbour: office().name },
    { status: sound ? 200 : 500 },
  );
}
