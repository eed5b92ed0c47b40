/* The reaper of --init: process 1 of a container. `docker-init -- program arguments…`
 *
 * Starts the program in a process group of its own, passes every signal on to it, reaps whatever is left to process 1,
 * and ends with the program's status (128 + signal when one killed it). No C library: a few kilobytes, one page of
 * memory beside the stack. Built by scripts/build-init.sh; the binaries lie beside this file.
 */
typedef unsigned long ulong;
typedef long (*unused)(void);

#if defined(__x86_64__)
enum { SYS_write = 1, SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_kill = 62, SYS_setpgid = 109,
       SYS_rt_sigprocmask = 14, SYS_rt_sigtimedwait = 128, SYS_clone = 56, SYS_ioctl = 16, SYS_getpid = 39 };
static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}
__asm__(".globl _start\n_start:\n\txor %rbp,%rbp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum { SYS_write = 64, SYS_execve = 221, SYS_exit = 93, SYS_wait4 = 260, SYS_kill = 129, SYS_setpgid = 154,
       SYS_rt_sigprocmask = 135, SYS_rt_sigtimedwait = 137, SYS_clone = 220, SYS_ioctl = 29, SYS_getpid = 172 };
static long call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl begin\n");
#endif

enum { SIGCHLD = 17, SIGTTIN = 21, SIGTTOU = 22, SIG_SETMASK = 2, ENOENT = 2, WNOHANG = 1, TIOCSPGRP = 0x5410 };

static ulong length(const char *text)
{
	ulong n = 0;
	while (text[n])
		n++;
	return n;
}

static int has_slash(const char *text)
{
	for (; *text; text++)
		if (*text == '/')
			return 1;
	return 0;
}

/* execvp(3): every directory of PATH in turn. */
static long execute(char **argv, char **envp)
{
	static char path[4096];
	const char *search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	long result = -ENOENT;
	if (has_slash(argv[0]))
		return call(SYS_execve, (long)argv[0], (long)argv, (long)envp, 0, 0);
	for (char **e = envp; *e; e++)
		if ((*e)[0] == 'P' && (*e)[1] == 'A' && (*e)[2] == 'T' && (*e)[3] == 'H' && (*e)[4] == '=')
			search = *e + 5;
	while (*search) {
		ulong n = 0, m = length(argv[0]);
		while (*search && *search != ':' && n < sizeof path / 2)
			path[n++] = *search++;
		while (*search && *search != ':')
			search++;
		if (*search == ':')
			search++;
		if (n == 0)
			path[n++] = '.';
		path[n++] = '/';
		if (n + m + 1 > sizeof path)
			continue;
		for (ulong i = 0; i <= m; i++)
			path[n + i] = argv[0][i];
		long one = call(SYS_execve, (long)path, (long)argv, (long)envp, 0, 0);
		if (one != -ENOENT)
			result = one;
	}
	return result;
}

__attribute__((noreturn)) static void finish(int status)
{
	for (;;)
		call(SYS_exit, status, 0, 0, 0, 0);
}

__attribute__((noreturn, used)) void begin(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1), **envp = argv + argc + 1;
	ulong all = ~0ul, before = 0;
	argv++;
	if (argv[0] && argv[0][0] == '-' && argv[0][1] == '-' && !argv[0][2])
		argv++;
	if (!argv[0])
		finish(127);
	call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, 8, 0);
	long child = call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		call(SYS_setpgid, 0, 0, 0, 0, 0);
		int group = (int)call(SYS_getpid, 0, 0, 0, 0, 0);
		call(SYS_ioctl, 0, TIOCSPGRP, (long)&group, 0, 0); /* the terminal's, if there is one; SIGTTOU is blocked */
		call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, 8, 0);
		long error = execute(argv, envp);
		call(SYS_write, 2, (long)"docker-init: cannot execute ", 28, 0, 0);
		call(SYS_write, 2, (long)argv[0], (long)length(argv[0]), 0, 0);
		call(SYS_write, 2, (long)"\n", 1, 0, 0);
		finish(error == -ENOENT ? 127 : 126);
	}
	if (child < 0)
		finish(1);
	for (;;) {
		long number = call(SYS_rt_sigtimedwait, (long)&all, 0, 0, 8, 0);
		if (number > 0 && number != SIGCHLD && number != SIGTTIN && number != SIGTTOU)
			call(SYS_kill, child, number, 0, 0, 0);
		for (;;) {
			int status = 0;
			long pid = call(SYS_wait4, -1, (long)&status, WNOHANG, 0, 0);
			if (pid <= 0)
				break;
			if (pid == child)
				finish((status & 0x7f) ? 128 + (status & 0x7f) : (status >> 8) & 0xff);
		}
	}
}
