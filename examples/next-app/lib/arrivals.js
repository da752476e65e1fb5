export const arrivals = [
  { ship: 'Maren', from: 'Esbjerg', berth: 2, cargo: 'timber' },
  { ship: 'Sant Jordi', from: 'Palma', berth: 5, cargo: 'oranges' },
  { ship: 'Northern Tern', from: 'Tromsø', berth: 1, cargo: 'cod' },
  { ship: 'Halcyon', from: 'Valletta', berth: 4, cargo: 'mail' },
];

export const berths = [1, 2, 3, 4, 5, 6].map((number) => ({
  number,
  ship: arrivals.find((arrival) => arrival.berth === number)?.ship,
}));
