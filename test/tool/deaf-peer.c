/*
 * Makes the kernel drop, unseen and unanswered, whatever arrives for the TCP connection that is descriptor 3: to its other
 * end it is as if this machine was gone. The filter stays with the connection when this process ends.
 */
#include <linux/filter.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void) {
  struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
  struct sock_fprog program = {1, &nothing};
  if (setsockopt(3, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0) return 0;
  perror("SO_ATTACH_FILTER");
  return 1;
}
