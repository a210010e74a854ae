// Generic netlink (linux/genetlink.h): commands to one family of the kernel, and the messages that it sends
// to its multicast group. Knows nothing of what a family's attributes mean.
//
//   message      nlmsghdr 16 | genlmsghdr 4 (command, version, reserved) | attributes
//   attribute    length 2 (with these 4) | type 2 | payload, padded to 4 bytes; host byte order
//
// Requests belong to one thread at a time, Next to another; Cancel may come from any.
#ifndef KEEPGATE_CORE_GENERIC_NETLINK_H_
#define KEEPGATE_CORE_GENERIC_NETLINK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace keepgate {

using NetlinkBytes = std::vector<uint8_t>;

// Calls `visit` for each attribute. False where the bytes are not a whole number of attributes; those before
// were visited.
bool EachAttribute(const uint8_t* bytes, size_t length,
                   const std::function<void(uint16_t type, const uint8_t* payload, size_t length)>& visit);

// What the kernel tells of a family (CTRL_CMD_NEWFAMILY): its number and its group's, 0 where it has none.
struct NetlinkFamily {
  uint16_t id = 0;
  uint32_t group = 0;
};
NetlinkFamily ParseFamily(const NetlinkBytes& attributes, const std::string& group);

class GenericNetlink {
 public:
  // 0, or a negative errno: -ENOENT where the kernel has no such family (its module is not loaded) or group.
  static int64_t Open(const std::string& family, const std::string& group,
                      std::unique_ptr<GenericNetlink>* link);
  ~GenericNetlink();
  GenericNetlink(const GenericNetlink&) = delete;
  GenericNetlink& operator=(const GenericNetlink&) = delete;

  // Waits until the kernel has done the command: 0, or the negative errno that it answered. `reply` gets the
  // attributes of its answer, if there is one.
  int64_t Request(uint8_t command, uint8_t version, const NetlinkBytes& attributes, NetlinkBytes* reply);

  // Waits for the group's next message: its command. -ENOBUFS: messages were lost. -ECANCELED: after Cancel.
  int64_t Next(NetlinkBytes* attributes);
  // Ends a Next that waits, and every later one.
  void Cancel();

 private:
  GenericNetlink() = default;
  int64_t Connect(const std::string& family, const std::string& group);
  int64_t Exchange(uint16_t type, uint8_t command, uint8_t version, const NetlinkBytes& attributes,
                   NetlinkBytes* reply);

  int commands_ = -1;
  int messages_ = -1;
  int cancel_ = -1;
  uint16_t family_ = 0;
  uint32_t sequence_ = 0;
};

}  // namespace keepgate

#endif  // KEEPGATE_CORE_GENERIC_NETLINK_H_
