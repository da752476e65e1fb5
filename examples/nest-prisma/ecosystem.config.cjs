// What pm2 was told before landfall. `landfall init` reads it, and nothing runs it any more: the recipe's [start] says
// the same, and pm2 runs landfall's launcher.
module.exports = {
  apps: [
    {
      name: 'backend',
      script: './dist/backend/main.js',
      exec_mode: 'cluster',
      instances: 2,
      max_memory_restart: '512M',
      kill_timeout: 5000,
      env: { NODE_ENV: 'production', PORT: 3200 },
    },
  ],
};
