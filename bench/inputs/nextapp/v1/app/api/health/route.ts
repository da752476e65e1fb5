import pino from 'pino'; const log = pino(); export const dynamic = 'force-dynamic';
export async function GET() { log.debug('health'); return Response.json({ ok: true, version: '@VERSION@' }); }
