#include "generic-netlink.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace keepgate {
namespace {

// More than the kernel sends at once (NLMSG_GOODSIZE, at most 8 KiB).
constexpr size_t kReceiveBytesMax = 32 * 1024;

int64_t OpenSocket(int* fd) {
  *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (*fd < 0) return -errno;
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  return bind(*fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : -errno;
}

void Append(NetlinkBytes* bytes, const void* data, size_t length) {
  const auto* from = static_cast<const uint8_t*>(data);
  bytes->insert(bytes->end(), from, from + length);
  bytes->resize(NLMSG_ALIGN(bytes->size()));
}

// One datagram from the kernel; those of other processes are dropped.
int64_t Receive(int fd, NetlinkBytes* datagram) {
  for (;;) {
    datagram->resize(kReceiveBytesMax);
    sockaddr_nl sender = {};
    iovec part = {datagram->data(), datagram->size()};
    msghdr message = {};
    message.msg_name = &sender;
    message.msg_namelen = sizeof sender;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t count = recvmsg(fd, &message, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    if ((message.msg_flags & MSG_TRUNC) != 0) return -EMSGSIZE;
    if (sender.nl_pid != 0) continue;
    datagram->resize(static_cast<size_t>(count));
    return 0;
  }
}

// The message at `start` and where the next begins; null where no whole one is left.
const nlmsghdr* MessageAt(const NetlinkBytes& datagram, size_t start, size_t* next) {
  if (start > datagram.size() || datagram.size() - start < sizeof(nlmsghdr)) return nullptr;
  const auto* header = reinterpret_cast<const nlmsghdr*>(datagram.data() + start);
  if (header->nlmsg_len < sizeof(nlmsghdr) || header->nlmsg_len > datagram.size() - start) return nullptr;
  *next = start + NLMSG_ALIGN(header->nlmsg_len);
  return header;
}

constexpr size_t kGenericHeaderBytes = NLMSG_HDRLEN + GENL_HDRLEN;

// The command, with its attributes; -EBADMSG where it is too short for one.
int64_t Unpack(const nlmsghdr* header, NetlinkBytes* attributes) {
  if (header->nlmsg_len < kGenericHeaderBytes) return -EBADMSG;
  const auto* bytes = reinterpret_cast<const uint8_t*>(header);
  attributes->assign(bytes + kGenericHeaderBytes, bytes + header->nlmsg_len);
  return reinterpret_cast<const genlmsghdr*>(bytes + NLMSG_HDRLEN)->cmd;
}

}  // namespace

bool EachAttribute(const uint8_t* bytes, size_t length,
                   const std::function<void(uint16_t type, const uint8_t* payload, size_t length)>& visit) {
  size_t start = 0;
  while (start < length) {
    nlattr attribute;
    if (length - start < sizeof attribute) return false;
    std::memcpy(&attribute, bytes + start, sizeof attribute);
    if (attribute.nla_len < sizeof attribute || attribute.nla_len > length - start) return false;
    visit(attribute.nla_type & NLA_TYPE_MASK, bytes + start + sizeof attribute,
          attribute.nla_len - sizeof attribute);
    start += NLA_ALIGN(attribute.nla_len);
  }
  return true;
}

NetlinkFamily ParseFamily(const NetlinkBytes& attributes, const std::string& group) {
  NetlinkFamily family;
  const auto on_group = [&](uint16_t, const uint8_t* bytes, size_t length) {
    std::string name;
    uint32_t id = 0;
    EachAttribute(bytes, length, [&](uint16_t type, const uint8_t* payload, size_t size) {
      if (type == CTRL_ATTR_MCAST_GRP_NAME && size > 0)
        name.assign(reinterpret_cast<const char*>(payload),
                    strnlen(reinterpret_cast<const char*>(payload), size));
      if (type == CTRL_ATTR_MCAST_GRP_ID && size == sizeof id) std::memcpy(&id, payload, sizeof id);
    });
    if (name == group) family.group = id;
  };
  EachAttribute(attributes.data(), attributes.size(),
                [&](uint16_t type, const uint8_t* payload, size_t size) {
                  if (type == CTRL_ATTR_FAMILY_ID && size == sizeof family.id)
                    std::memcpy(&family.id, payload, sizeof family.id);
                  if (type == CTRL_ATTR_MCAST_GROUPS) EachAttribute(payload, size, on_group);
                });
  return family;
}

int64_t GenericNetlink::Open(const std::string& family, const std::string& group,
                             std::unique_ptr<GenericNetlink>* link) {
  std::unique_ptr<GenericNetlink> opened(new GenericNetlink());
  const int64_t result = opened->Connect(family, group);
  if (result == 0) *link = std::move(opened);
  return result;
}

GenericNetlink::~GenericNetlink() {
  for (const int fd : {commands_, messages_, cancel_}) {
    if (fd >= 0) close(fd);
  }
}

int64_t GenericNetlink::Connect(const std::string& family, const std::string& group) {
  if (family.size() >= GENL_NAMSIZ || group.size() >= GENL_NAMSIZ) return -ENAMETOOLONG;
  for (int* fd : {&commands_, &messages_}) {
    const int64_t opened = OpenSocket(fd);
    if (opened < 0) return opened;
  }
  cancel_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (cancel_ < 0) return -errno;
  NetlinkBytes name;
  nlattr attribute = {};
  attribute.nla_type = CTRL_ATTR_FAMILY_NAME;
  attribute.nla_len = static_cast<uint16_t>(NLA_HDRLEN + family.size() + 1);
  Append(&name, &attribute, sizeof attribute);
  Append(&name, family.c_str(), family.size() + 1);
  NetlinkBytes reply;
  const int64_t asked = Exchange(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, name, &reply);
  if (asked < 0) return asked;
  const NetlinkFamily found = ParseFamily(reply, group);
  if (found.id == 0 || found.group == 0) return -ENOENT;
  family_ = found.id;
  if (setsockopt(messages_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &found.group, sizeof found.group) != 0)
    return -errno;
  return 0;
}

int64_t GenericNetlink::Request(uint8_t command, uint8_t version, const NetlinkBytes& attributes,
                                NetlinkBytes* reply) {
  return Exchange(family_, command, version, attributes, reply);
}

int64_t GenericNetlink::Exchange(uint16_t type, uint8_t command, uint8_t version,
                                 const NetlinkBytes& attributes, NetlinkBytes* reply) {
  const uint32_t sequence = ++sequence_;
  nlmsghdr header = {};
  header.nlmsg_len = static_cast<uint32_t>(kGenericHeaderBytes + attributes.size());
  header.nlmsg_type = type;
  header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  header.nlmsg_seq = sequence;
  genlmsghdr generic = {};
  generic.cmd = command;
  generic.version = version;
  NetlinkBytes message;
  Append(&message, &header, sizeof header);
  Append(&message, &generic, sizeof generic);
  Append(&message, attributes.data(), attributes.size());
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  if (sendto(commands_, message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(&kernel),
             sizeof kernel) < 0)
    return -errno;
  // The answer, where there is one, comes before the acknowledgement.
  NetlinkBytes datagram;
  for (;;) {
    const int64_t received = Receive(commands_, &datagram);
    if (received < 0) return received;
    size_t next = 0;
    const nlmsghdr* found;
    for (size_t start = 0; (found = MessageAt(datagram, start, &next)) != nullptr; start = next) {
      if (found->nlmsg_seq != sequence) continue;
      if (found->nlmsg_type == NLMSG_ERROR) {
        if (found->nlmsg_len < NLMSG_LENGTH(sizeof(int))) return -EBADMSG;
        int error;
        std::memcpy(&error, NLMSG_DATA(found), sizeof error);
        return error;
      }
      if (found->nlmsg_type == type && reply != nullptr) {
        const int64_t unpacked = Unpack(found, reply);
        if (unpacked < 0) return unpacked;
      }
    }
  }
}

int64_t GenericNetlink::Next(NetlinkBytes* attributes) {
  NetlinkBytes datagram;
  for (;;) {
    pollfd waits[] = {{messages_, POLLIN, 0}, {cancel_, POLLIN, 0}};
    if (poll(waits, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (waits[1].revents != 0) return -ECANCELED;
    const int64_t received = Receive(messages_, &datagram);
    if (received < 0) return received;
    size_t next = 0;
    // The kernel sends one message at a time.
    const nlmsghdr* found = MessageAt(datagram, 0, &next);
    if (found != nullptr && found->nlmsg_type == family_) return Unpack(found, attributes);
  }
}

void GenericNetlink::Cancel() {
  const uint64_t one = 1;
  static_cast<void>(!write(cancel_, &one, sizeof one));
}

}  // namespace keepgate
