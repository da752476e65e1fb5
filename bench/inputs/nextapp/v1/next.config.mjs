export default { output: 'standalone', outputFileTracingRoot: import.meta.dirname, serverExternalPackages: ['pino','sharp','lodash'],
  generateBuildId: async () => '@BUILD@' };
