// SPDX-License-Identifier: Apache-2.0
'use strict';
// Something of what programs are made of, each until it is compiled and beyond.
function sieve(n) { const a = new Uint8Array(n + 1); let c = 0;
	for (let i = 2; i <= n; i++) { if (!a[i]) { c++; for (let j = i * 2; j <= n; j += i) a[j] = 1; } } return c; }
function nbody(steps) { let x = 1, y = 0, vx = 0, vy = 1;
	for (let i = 0; i < steps; i++) { const r = Math.sqrt(x * x + y * y), f = -1 / (r * r * r);
		vx += f * x * 1e-3; vy += f * y * 1e-3; x += vx * 1e-3; y += vy * 1e-3; } return (x * x + y * y).toFixed(9); }
function objects(n) { const m = new Map(); let s = 0;
	for (let i = 0; i < n; i++) { const k = 'k' + (i * 7919 % 5003); const o = m.get(k) || { n: 0, v: [] };
		o.n++; if (o.v.length < 4) o.v.push(i); m.set(k, o); s = (s * 31 + o.n) % 1000003; }
	return s + ' ' + m.size; }
function regex(n) { let c = 0; for (let i = 0; i < n; i++) { const m = /^(\w+)-(\d+)\.(x|y)$/.exec('name-' + i + (i % 3 ? '.x' : '.z')); if (m) c += Number(m[2]) % 7; } return c; }
// Code that is made again and again.
function made(n) { let s = 0; for (let i = 0; i < n; i++) { const f = new Function('a', 'b', 'let r = a; for (let k = 0; k < 2000; k++) r = (r * ' + (i % 97 + 3) + ' + b + k) % 1000003; return r;'); s = (s + f(i, 5)) % 1000003; } return s; }
function sorts(n) { const a = []; let s = 12345; for (let i = 0; i < n; i++) { s = (s * 1103515245 + 12345) & 0x7fffffff; a.push(s); } a.sort((p, q) => p - q); let h = 0; for (const v of a) h = (h * 33 + v) % 1000003; return h; }
function big(n) { let a = 1n; for (let i = 2n; i <= n; i++) a *= i; return a.toString().length + ' ' + a % 1000003n; }
function deopt(n) { function add(a, b) { return a + b; } let s = 0; for (let i = 0; i < n; i++) s = add(s, i) % 1000003; let t = ''; for (let i = 0; i < 1000; i++) t = add(t, i % 10); for (let i = 0; i < n; i++) s = add(s, i * 0.5) % 1000003; return s + ' ' + t.length; }
const scale = Number(process.argv[2] || 1);
console.log('sieve', sieve(300000 * scale));
console.log('nbody', nbody(500000 * scale));
console.log('objects', objects(200000 * scale));
console.log('regex', regex(100000 * scale));
console.log('made', made(300 * scale));
console.log('sorts', sorts(100000 * scale));
console.log('big', big(BigInt(600 * scale)));
console.log('deopt', deopt(200000 * scale));
console.log('hash', require('crypto').createHash('sha256').update(JSON.stringify(Array.from({ length: 20000 }, (_, i) => ({ i, s: 'v' + i })))).digest('hex'));
