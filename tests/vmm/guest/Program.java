// SPDX-License-Identifier: Apache-2.0
import java.util.*;
import java.util.concurrent.*;
import java.util.function.*;
import java.util.stream.*;

public class Program {
	interface Shape { double area(); }
	record Square(double a) implements Shape { public double area() { return a * a; } }
	record Circle(double r) implements Shape { public double area() { return 3.0 * r * r; } }
	record Rect(double a, double b) implements Shape { public double area() { return a * b; } }

	static int sieve(int n) {
		boolean[] a = new boolean[n + 1];
		int c = 0;
		for (int i = 2; i <= n; i++) {
			if (!a[i]) { c++; for (long j = 2L * i; j <= n; j += i) a[(int) j] = true; }
		}
		return c;
	}
	static long shapes(int n) {
		Shape[] s = new Shape[1000];
		double sum = 0;
		for (int i = 0; i < s.length; i++) s[i] = i % 2 == 0 ? new Square(i) : new Circle(i);
		for (int k = 0; k < n; k++) {
			if (k == n / 2) for (int i = 0; i < s.length; i += 3) s[i] = new Rect(i, 2);   // what was assumed is wrong now
			for (Shape one : s) sum += one.area() % 7;
		}
		return (long) sum;
	}
	static long maps(int n) {
		HashMap<String, Integer> m = new HashMap<>();
		long h = 0;
		for (int i = 0; i < n; i++) h = (h * 31 + m.merge("k" + (i * 7919L % 5003), 1, Integer::sum)) % 1000003;
		return h;
	}
	static long threads(int n) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(4);
		ConcurrentHashMap<Integer, Long> m = new ConcurrentHashMap<>();
		List<Future<Long>> all = new ArrayList<>();
		for (int t = 0; t < 4; t++) {
			final int id = t;
			all.add(pool.submit(() -> {
				long s = 0;
				for (int i = 0; i < n; i++) { m.merge(i % 257, 1L, Long::sum); s += (long) i * id % 13; }
				return s;
			}));
		}
		long s = 0;
		for (Future<Long> f : all) s += f.get();
		pool.shutdown();
		for (long v : m.values()) s += v;
		return s;
	}
	static double matrix(int n) {
		double[][] a = new double[n][n], b = new double[n][n], c = new double[n][n];
		for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) { a[i][j] = i + j; b[i][j] = i - j; }
		for (int i = 0; i < n; i++) for (int k = 0; k < n; k++) { double v = a[i][k]; for (int j = 0; j < n; j++) c[i][j] += v * b[k][j]; }
		double s = 0;
		for (double[] r : c) for (double v : r) s += v;
		return s;
	}
	static int exceptions(int n) {
		int c = 0;
		int[] a = new int[10];
		String no = null;
		for (int i = 0; i < n; i++) {
			try { if (i % 5 == 0) c += no.length(); else if (i % 7 == 0) c += 1 / (i % 7); else a[i % 12]++; }
			catch (NullPointerException e) { c += 3; } catch (ArithmeticException e) { c += 5; } catch (ArrayIndexOutOfBoundsException e) { c += 7; }
		}
		return c + a[3];
	}
	public static void main(String[] args) throws Exception {
		int scale = args.length > 0 ? Integer.parseInt(args[0]) : 1;
		System.out.println("sieve " + sieve(1000000 * scale));
		System.out.println("shapes " + shapes(3000 * scale));
		System.out.println("maps " + maps(200000 * scale));
		System.out.println("threads " + threads(100000 * scale));
		System.out.println("matrix " + matrix(150));
		System.out.println("exceptions " + exceptions(200000 * scale));
		System.out.println("streams " + IntStream.range(0, 200000 * scale).mapToObj(i -> "s" + i % 1000).collect(Collectors.groupingBy(Function.identity(), TreeMap::new, Collectors.counting())).hashCode());
		StringBuilder b = new StringBuilder();
		for (int i = 0; i < 50000; i++) b.append(i).append(i % 3 == 0 ? "fizz" : "-");
		System.out.println("text " + b.toString().hashCode() + " " + b.toString().replaceAll("[0-9]+fizz", "F").length());
	}
}
