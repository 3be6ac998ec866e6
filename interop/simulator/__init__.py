"""A network of one link between two namespaces: rate, queue, delay, loss, corruption, a NAT.

The kernel's netem does this where it is built in; here it is a program, so that it is the same
everywhere and can drop "packets 2 to 7" as well. What happens to a packet is decided without a
clock or a device (`link`, `faults`, `nat`, `simulation`); `tun` and `__main__` do the I/O.
"""
