// Code generated via abigen V2 - DO NOT EDIT.
// This file is a generated binding and any manual changes will be lost.

package binding

import (
	"bytes"
	"errors"
	"math/big"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// Reference imports to suppress errors if they are not otherwise used.
var (
	_ = bytes.Equal
	_ = errors.New
	_ = big.NewInt
	_ = common.Big1
	_ = types.BloomLookup
	_ = abi.ConvertType
)

// AnchorLogMetaData contains all meta data concerning the AnchorLog contract.
var AnchorLogMetaData = bind.MetaData{
	ABI: "[{\"inputs\":[{\"internalType\":\"address\",\"name\":\"admin\",\"type\":\"address\"},{\"internalType\":\"address\",\"name\":\"anchorer\",\"type\":\"address\"}],\"stateMutability\":\"nonpayable\",\"type\":\"constructor\"},{\"inputs\":[],\"name\":\"AccessControlBadConfirmation\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"internalType\":\"bytes32\",\"name\":\"neededRole\",\"type\":\"bytes32\"}],\"name\":\"AccessControlUnauthorizedAccount\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"expected\",\"type\":\"bytes32\"},{\"internalType\":\"bytes32\",\"name\":\"given\",\"type\":\"bytes32\"}],\"name\":\"BadPrevRoot\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"uint64\",\"name\":\"expected\",\"type\":\"uint64\"},{\"internalType\":\"uint64\",\"name\":\"given\",\"type\":\"uint64\"}],\"name\":\"BadSeq\",\"type\":\"error\"},{\"inputs\":[{\"internalType\":\"uint64\",\"name\":\"least\",\"type\":\"uint64\"},{\"internalType\":\"uint64\",\"name\":\"given\",\"type\":\"uint64\"}],\"name\":\"BadSize\",\"type\":\"error\"},{\"anonymous\":false,\"inputs\":[{\"indexed\":true,\"internalType\":\"uint64\",\"name\":\"seq\",\"type\":\"uint64\"},{\"indexed\":false,\"internalType\":\"uint64\",\"name\":\"hour\",\"type\":\"uint64\"},{\"indexed\":false,\"internalType\":\"bytes32\",\"name\":\"prevRoot\",\"type\":\"bytes32\"},{\"indexed\":false,\"internalType\":\"bytes32\",\"name\":\"root\",\"type\":\"bytes32\"},{\"indexed\":false,\"internalType\":\"uint64\",\"name\":\"size\",\"type\":\"uint64\"}],\"name\":\"HeadAnchored\",\"type\":\"event\"},{\"anonymous\":false,\"inputs\":[{\"indexed\":true,\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"indexed\":true,\"internalType\":\"bytes32\",\"name\":\"previousAdminRole\",\"type\":\"bytes32\"},{\"indexed\":true,\"internalType\":\"bytes32\",\"name\":\"newAdminRole\",\"type\":\"bytes32\"}],\"name\":\"RoleAdminChanged\",\"type\":\"event\"},{\"anonymous\":false,\"inputs\":[{\"indexed\":true,\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"sender\",\"type\":\"address\"}],\"name\":\"RoleGranted\",\"type\":\"event\"},{\"anonymous\":false,\"inputs\":[{\"indexed\":true,\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"},{\"indexed\":true,\"internalType\":\"address\",\"name\":\"sender\",\"type\":\"address\"}],\"name\":\"RoleRevoked\",\"type\":\"event\"},{\"inputs\":[],\"name\":\"ANCHORER_ROLE\",\"outputs\":[{\"internalType\":\"bytes32\",\"name\":\"\",\"type\":\"bytes32\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"DEFAULT_ADMIN_ROLE\",\"outputs\":[{\"internalType\":\"bytes32\",\"name\":\"\",\"type\":\"bytes32\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"uint64\",\"name\":\"seq\",\"type\":\"uint64\"},{\"internalType\":\"uint64\",\"name\":\"hour\",\"type\":\"uint64\"},{\"internalType\":\"bytes32\",\"name\":\"prevRoot\",\"type\":\"bytes32\"},{\"internalType\":\"bytes32\",\"name\":\"root\",\"type\":\"bytes32\"},{\"internalType\":\"uint64\",\"name\":\"size\",\"type\":\"uint64\"}],\"name\":\"anchorHead\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"}],\"name\":\"getRoleAdmin\",\"outputs\":[{\"internalType\":\"bytes32\",\"name\":\"\",\"type\":\"bytes32\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"grantRole\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"hasRole\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[],\"name\":\"head\",\"outputs\":[{\"internalType\":\"uint64\",\"name\":\"seq\",\"type\":\"uint64\"},{\"internalType\":\"uint64\",\"name\":\"hour\",\"type\":\"uint64\"},{\"internalType\":\"uint64\",\"name\":\"size\",\"type\":\"uint64\"},{\"internalType\":\"bytes32\",\"name\":\"root\",\"type\":\"bytes32\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"internalType\":\"address\",\"name\":\"callerConfirmation\",\"type\":\"address\"}],\"name\":\"renounceRole\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"role\",\"type\":\"bytes32\"},{\"internalType\":\"address\",\"name\":\"account\",\"type\":\"address\"}],\"name\":\"revokeRole\",\"outputs\":[],\"stateMutability\":\"nonpayable\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes4\",\"name\":\"interfaceId\",\"type\":\"bytes4\"}],\"name\":\"supportsInterface\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"}]",
	ID:  "AnchorLog",
	Bin: "0x60803461007557601f610be738819003918201601f19168301916001600160401b03831184841017610079578084926040948552833981010312610075578061005f61005960206100526100659561008d565b930161008d565b916100a1565b50610117565b506040516109dc90816101ab8239f35b5f80fd5b634e487b7160e01b5f52604160045260245ffd5b51906001600160a01b038216820361007557565b6001600160a01b0381165f9081525f516020610bc75f395f51905f52602052604090205460ff16610112576001600160a01b03165f8181525f516020610bc75f395f51905f5260205260408120805460ff191660011790553391905f516020610b875f395f51905f528180a4600190565b505f90565b6001600160a01b0381165f9081525f516020610ba75f395f51905f52602052604090205460ff16610112576001600160a01b03165f8181525f516020610ba75f395f51905f5260205260408120805460ff191660011790553391907f4b3e6527f1b0d33beb6c20e3c362af276f03c4526b5f8b6d118672f0d75a60eb905f516020610b875f395f51905f529080a460019056fe6080806040526004361015610012575f80fd5b5f3560e01c90816301ffc9a71461064a57508063248a9ca3146105fa5780632f2ff15d146105cb57806336568abe1461056f5780637cfd9a51146105175780638f7dcfa31461049657806391d148541461044d578063a217fddf14610415578063a35b13d3146100c45763d547741f1461008a575f80fd5b346100c0576100be61009b36610706565b906100b96100b4825f525f602052600160405f20015490565b6107dc565b610914565b005b5f80fd5b346100c05760a07ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc3601126100c05760043567ffffffffffffffff81168091036100c05760243567ffffffffffffffff8116908181036100c0576044356064359060843567ffffffffffffffff8116938482036100c057335f9081527ff9afc5eccc556dfbeedb3ca7bc93a51b4efbf91901a8edd8d8d95baa0671a408602052604090205460ff16156103c5576101796107a4565b67ffffffffffffffff6001818351160116808903610395575060608101805180860361036557506040820167ffffffffffffffff81511680891061033657505167ffffffffffffffff1691878314918261032a575b5081610315575b5061029c5750918391608095937f208da491ab95e0f6410d80976eda128ff8c81a76c6cc0349241164cd49a7144c9795606061020f610757565b8b815288602082015287604082015201526fffffffffffffffff0000000000000000897fffffffffffffffff00000000000000000000000000000000000000000000000077ffffffffffffffff00000000000000000000000000000000600154958b1b169416179160401b16171760015581600255604051938452602084015260408301526060820152a2005b600186910167ffffffffffffffff81116102e85767ffffffffffffffff907e73e026000000000000000000000000000000000000000000000000000000005f521660045260245260445ffd5b7f4e487b71000000000000000000000000000000000000000000000000000000005f52601160045260245ffd5b67ffffffffffffffff915051161515896101d5565b5187141591508a6101ce565b88907e73e026000000000000000000000000000000000000000000000000000000005f5260045260245260445ffd5b85907f6cc2cd8b000000000000000000000000000000000000000000000000000000005f5260045260245260445ffd5b88907fe430287c000000000000000000000000000000000000000000000000000000005f5260045260245260445ffd5b7fe2517d3f000000000000000000000000000000000000000000000000000000005f52336004527f4b3e6527f1b0d33beb6c20e3c362af276f03c4526b5f8b6d118672f0d75a60eb60245260445ffd5b346100c0575f7ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc3601126100c05760206040515f8152f35b346100c05761045b36610706565b905f525f60205273ffffffffffffffffffffffffffffffffffffffff60405f2091165f52602052602060ff60405f2054166040519015158152f35b346100c0575f7ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc3601126100c05760806104ce6107a4565b67ffffffffffffffff8151169067ffffffffffffffff60208201511690606067ffffffffffffffff60408301511691015191604051938452602084015260408301526060820152f35b346100c0575f7ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc3601126100c05760206040517f4b3e6527f1b0d33beb6c20e3c362af276f03c4526b5f8b6d118672f0d75a60eb8152f35b346100c05761057d36610706565b3373ffffffffffffffffffffffffffffffffffffffff8216036105a3576100be91610914565b7f6697b232000000000000000000000000000000000000000000000000000000005f5260045ffd5b346100c0576100be6105dc36610706565b906105f56100b4825f525f602052600160405f20015490565b610842565b346100c05760207ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc3601126100c05760206106426004355f525f602052600160405f20015490565b604051908152f35b346100c05760207ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc3601126100c057600435907fffffffff0000000000000000000000000000000000000000000000000000000082168092036100c057817f7965db0b00000000000000000000000000000000000000000000000000000000602093149081156106dc575b5015158152f35b7f01ffc9a700000000000000000000000000000000000000000000000000000000915014836106d5565b7ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc60409101126100c0576004359060243573ffffffffffffffffffffffffffffffffffffffff811681036100c05790565b604051906080820182811067ffffffffffffffff82111761077757604052565b7f4e487b71000000000000000000000000000000000000000000000000000000005f52604160045260245ffd5b6107ac610757565b9067ffffffffffffffff6001548181168452818160401c16602085015260801c1660408301526002546060830152565b805f525f60205260405f2073ffffffffffffffffffffffffffffffffffffffff33165f5260205260ff60405f205416156108135750565b7fe2517d3f000000000000000000000000000000000000000000000000000000005f523360045260245260445ffd5b805f525f60205260405f2073ffffffffffffffffffffffffffffffffffffffff83165f5260205260ff60405f205416155f1461090e57805f525f60205260405f2073ffffffffffffffffffffffffffffffffffffffff83165f5260205260405f2060017fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0082541617905573ffffffffffffffffffffffffffffffffffffffff339216907f2f8788117e7eff1d82e926ec794901d17c78024a50270940304540a733656f0d5f80a4600190565b50505f90565b805f525f60205260405f2073ffffffffffffffffffffffffffffffffffffffff83165f5260205260ff60405f2054165f1461090e57805f525f60205260405f2073ffffffffffffffffffffffffffffffffffffffff83165f5260205260405f207fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00815416905573ffffffffffffffffffffffffffffffffffffffff339216907ff6391f5c32d9c69d2a47ea670b442974b53935d1edc7fd64eb21e047a839171b5f80a4600190562f8788117e7eff1d82e926ec794901d17c78024a50270940304540a733656f0df9afc5eccc556dfbeedb3ca7bc93a51b4efbf91901a8edd8d8d95baa0671a408ad3228b676f7d3cd4284a5443f17f1962b36e491b30a40b2405849e597ba5fb5",
}

// AnchorLog is an auto generated Go binding around an Ethereum contract.
type AnchorLog struct {
	abi abi.ABI
}

// GetABI returns the ABI associated with this contract binding.
func (c *AnchorLog) GetABI() abi.ABI {
	return c.abi
}

// NewAnchorLog creates a new instance of AnchorLog.
func NewAnchorLog() *AnchorLog {
	parsed, err := AnchorLogMetaData.ParseABI()
	if err != nil {
		panic(errors.New("invalid ABI: " + err.Error()))
	}
	return &AnchorLog{abi: *parsed}
}

// Instance creates a wrapper for a deployed contract instance at the given address.
// Use this to create the instance object passed to abigen v2 library functions Call, Transact, etc.
func (c *AnchorLog) Instance(backend bind.ContractBackend, addr common.Address) *bind.BoundContract {
	return bind.NewBoundContract(addr, c.abi, backend, backend, backend)
}

// PackConstructor is the Go binding used to pack the parameters required for
// contract deployment.
//
// Solidity: constructor(address admin, address anchorer) returns()
func (anchorLog *AnchorLog) PackConstructor(admin common.Address, anchorer common.Address) []byte {
	enc, err := anchorLog.abi.Pack("", admin, anchorer)
	if err != nil {
		panic(err)
	}
	return enc
}

// PackANCHORERROLE is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x7cfd9a51.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function ANCHORER_ROLE() view returns(bytes32)
func (anchorLog *AnchorLog) PackANCHORERROLE() []byte {
	enc, err := anchorLog.abi.Pack("ANCHORER_ROLE")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackANCHORERROLE is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x7cfd9a51.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function ANCHORER_ROLE() view returns(bytes32)
func (anchorLog *AnchorLog) TryPackANCHORERROLE() ([]byte, error) {
	return anchorLog.abi.Pack("ANCHORER_ROLE")
}

// UnpackANCHORERROLE is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x7cfd9a51.
//
// Solidity: function ANCHORER_ROLE() view returns(bytes32)
func (anchorLog *AnchorLog) UnpackANCHORERROLE(data []byte) ([32]byte, error) {
	out, err := anchorLog.abi.Unpack("ANCHORER_ROLE", data)
	if err != nil {
		return *new([32]byte), err
	}
	out0 := *abi.ConvertType(out[0], new([32]byte)).(*[32]byte)
	return out0, nil
}

// PackDEFAULTADMINROLE is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xa217fddf.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function DEFAULT_ADMIN_ROLE() view returns(bytes32)
func (anchorLog *AnchorLog) PackDEFAULTADMINROLE() []byte {
	enc, err := anchorLog.abi.Pack("DEFAULT_ADMIN_ROLE")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackDEFAULTADMINROLE is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xa217fddf.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function DEFAULT_ADMIN_ROLE() view returns(bytes32)
func (anchorLog *AnchorLog) TryPackDEFAULTADMINROLE() ([]byte, error) {
	return anchorLog.abi.Pack("DEFAULT_ADMIN_ROLE")
}

// UnpackDEFAULTADMINROLE is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0xa217fddf.
//
// Solidity: function DEFAULT_ADMIN_ROLE() view returns(bytes32)
func (anchorLog *AnchorLog) UnpackDEFAULTADMINROLE(data []byte) ([32]byte, error) {
	out, err := anchorLog.abi.Unpack("DEFAULT_ADMIN_ROLE", data)
	if err != nil {
		return *new([32]byte), err
	}
	out0 := *abi.ConvertType(out[0], new([32]byte)).(*[32]byte)
	return out0, nil
}

// PackAnchorHead is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xa35b13d3.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function anchorHead(uint64 seq, uint64 hour, bytes32 prevRoot, bytes32 root, uint64 size) returns()
func (anchorLog *AnchorLog) PackAnchorHead(seq uint64, hour uint64, prevRoot [32]byte, root [32]byte, size uint64) []byte {
	enc, err := anchorLog.abi.Pack("anchorHead", seq, hour, prevRoot, root, size)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackAnchorHead is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xa35b13d3.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function anchorHead(uint64 seq, uint64 hour, bytes32 prevRoot, bytes32 root, uint64 size) returns()
func (anchorLog *AnchorLog) TryPackAnchorHead(seq uint64, hour uint64, prevRoot [32]byte, root [32]byte, size uint64) ([]byte, error) {
	return anchorLog.abi.Pack("anchorHead", seq, hour, prevRoot, root, size)
}

// PackGetRoleAdmin is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x248a9ca3.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function getRoleAdmin(bytes32 role) view returns(bytes32)
func (anchorLog *AnchorLog) PackGetRoleAdmin(role [32]byte) []byte {
	enc, err := anchorLog.abi.Pack("getRoleAdmin", role)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackGetRoleAdmin is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x248a9ca3.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function getRoleAdmin(bytes32 role) view returns(bytes32)
func (anchorLog *AnchorLog) TryPackGetRoleAdmin(role [32]byte) ([]byte, error) {
	return anchorLog.abi.Pack("getRoleAdmin", role)
}

// UnpackGetRoleAdmin is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x248a9ca3.
//
// Solidity: function getRoleAdmin(bytes32 role) view returns(bytes32)
func (anchorLog *AnchorLog) UnpackGetRoleAdmin(data []byte) ([32]byte, error) {
	out, err := anchorLog.abi.Unpack("getRoleAdmin", data)
	if err != nil {
		return *new([32]byte), err
	}
	out0 := *abi.ConvertType(out[0], new([32]byte)).(*[32]byte)
	return out0, nil
}

// PackGrantRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x2f2ff15d.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function grantRole(bytes32 role, address account) returns()
func (anchorLog *AnchorLog) PackGrantRole(role [32]byte, account common.Address) []byte {
	enc, err := anchorLog.abi.Pack("grantRole", role, account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackGrantRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x2f2ff15d.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function grantRole(bytes32 role, address account) returns()
func (anchorLog *AnchorLog) TryPackGrantRole(role [32]byte, account common.Address) ([]byte, error) {
	return anchorLog.abi.Pack("grantRole", role, account)
}

// PackHasRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x91d14854.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function hasRole(bytes32 role, address account) view returns(bool)
func (anchorLog *AnchorLog) PackHasRole(role [32]byte, account common.Address) []byte {
	enc, err := anchorLog.abi.Pack("hasRole", role, account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackHasRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x91d14854.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function hasRole(bytes32 role, address account) view returns(bool)
func (anchorLog *AnchorLog) TryPackHasRole(role [32]byte, account common.Address) ([]byte, error) {
	return anchorLog.abi.Pack("hasRole", role, account)
}

// UnpackHasRole is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x91d14854.
//
// Solidity: function hasRole(bytes32 role, address account) view returns(bool)
func (anchorLog *AnchorLog) UnpackHasRole(data []byte) (bool, error) {
	out, err := anchorLog.abi.Unpack("hasRole", data)
	if err != nil {
		return *new(bool), err
	}
	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)
	return out0, nil
}

// PackHead is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x8f7dcfa3.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function head() view returns(uint64 seq, uint64 hour, uint64 size, bytes32 root)
func (anchorLog *AnchorLog) PackHead() []byte {
	enc, err := anchorLog.abi.Pack("head")
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackHead is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x8f7dcfa3.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function head() view returns(uint64 seq, uint64 hour, uint64 size, bytes32 root)
func (anchorLog *AnchorLog) TryPackHead() ([]byte, error) {
	return anchorLog.abi.Pack("head")
}

// HeadOutput serves as a container for the return parameters of contract
// method Head.
type HeadOutput struct {
	Seq  uint64
	Hour uint64
	Size uint64
	Root [32]byte
}

// UnpackHead is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x8f7dcfa3.
//
// Solidity: function head() view returns(uint64 seq, uint64 hour, uint64 size, bytes32 root)
func (anchorLog *AnchorLog) UnpackHead(data []byte) (HeadOutput, error) {
	out, err := anchorLog.abi.Unpack("head", data)
	outstruct := new(HeadOutput)
	if err != nil {
		return *outstruct, err
	}
	outstruct.Seq = *abi.ConvertType(out[0], new(uint64)).(*uint64)
	outstruct.Hour = *abi.ConvertType(out[1], new(uint64)).(*uint64)
	outstruct.Size = *abi.ConvertType(out[2], new(uint64)).(*uint64)
	outstruct.Root = *abi.ConvertType(out[3], new([32]byte)).(*[32]byte)
	return *outstruct, nil
}

// PackRenounceRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x36568abe.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function renounceRole(bytes32 role, address callerConfirmation) returns()
func (anchorLog *AnchorLog) PackRenounceRole(role [32]byte, callerConfirmation common.Address) []byte {
	enc, err := anchorLog.abi.Pack("renounceRole", role, callerConfirmation)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackRenounceRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x36568abe.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function renounceRole(bytes32 role, address callerConfirmation) returns()
func (anchorLog *AnchorLog) TryPackRenounceRole(role [32]byte, callerConfirmation common.Address) ([]byte, error) {
	return anchorLog.abi.Pack("renounceRole", role, callerConfirmation)
}

// PackRevokeRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xd547741f.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function revokeRole(bytes32 role, address account) returns()
func (anchorLog *AnchorLog) PackRevokeRole(role [32]byte, account common.Address) []byte {
	enc, err := anchorLog.abi.Pack("revokeRole", role, account)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackRevokeRole is the Go binding used to pack the parameters required for calling
// the contract method with ID 0xd547741f.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function revokeRole(bytes32 role, address account) returns()
func (anchorLog *AnchorLog) TryPackRevokeRole(role [32]byte, account common.Address) ([]byte, error) {
	return anchorLog.abi.Pack("revokeRole", role, account)
}

// PackSupportsInterface is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x01ffc9a7.  This method will panic if any
// invalid/nil inputs are passed.
//
// Solidity: function supportsInterface(bytes4 interfaceId) view returns(bool)
func (anchorLog *AnchorLog) PackSupportsInterface(interfaceId [4]byte) []byte {
	enc, err := anchorLog.abi.Pack("supportsInterface", interfaceId)
	if err != nil {
		panic(err)
	}
	return enc
}

// TryPackSupportsInterface is the Go binding used to pack the parameters required for calling
// the contract method with ID 0x01ffc9a7.  This method will return an error
// if any inputs are invalid/nil.
//
// Solidity: function supportsInterface(bytes4 interfaceId) view returns(bool)
func (anchorLog *AnchorLog) TryPackSupportsInterface(interfaceId [4]byte) ([]byte, error) {
	return anchorLog.abi.Pack("supportsInterface", interfaceId)
}

// UnpackSupportsInterface is the Go binding that unpacks the parameters returned
// from invoking the contract method with ID 0x01ffc9a7.
//
// Solidity: function supportsInterface(bytes4 interfaceId) view returns(bool)
func (anchorLog *AnchorLog) UnpackSupportsInterface(data []byte) (bool, error) {
	out, err := anchorLog.abi.Unpack("supportsInterface", data)
	if err != nil {
		return *new(bool), err
	}
	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)
	return out0, nil
}

// AnchorLogHeadAnchored represents a HeadAnchored event raised by the AnchorLog contract.
type AnchorLogHeadAnchored struct {
	Seq      uint64
	Hour     uint64
	PrevRoot [32]byte
	Root     [32]byte
	Size     uint64
	Raw      *types.Log // Blockchain specific contextual infos
}

const AnchorLogHeadAnchoredEventName = "HeadAnchored"

// ContractEventName returns the user-defined event name.
func (AnchorLogHeadAnchored) ContractEventName() string {
	return AnchorLogHeadAnchoredEventName
}

// UnpackHeadAnchoredEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event HeadAnchored(uint64 indexed seq, uint64 hour, bytes32 prevRoot, bytes32 root, uint64 size)
func (anchorLog *AnchorLog) UnpackHeadAnchoredEvent(log *types.Log) (*AnchorLogHeadAnchored, error) {
	event := "HeadAnchored"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != anchorLog.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(AnchorLogHeadAnchored)
	if len(log.Data) > 0 {
		if err := anchorLog.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range anchorLog.abi.Events[event].Inputs {
		if arg.Indexed {
			indexed = append(indexed, arg)
		}
	}
	if err := abi.ParseTopics(out, indexed, log.Topics[1:]); err != nil {
		return nil, err
	}
	out.Raw = log
	return out, nil
}

// AnchorLogRoleAdminChanged represents a RoleAdminChanged event raised by the AnchorLog contract.
type AnchorLogRoleAdminChanged struct {
	Role              [32]byte
	PreviousAdminRole [32]byte
	NewAdminRole      [32]byte
	Raw               *types.Log // Blockchain specific contextual infos
}

const AnchorLogRoleAdminChangedEventName = "RoleAdminChanged"

// ContractEventName returns the user-defined event name.
func (AnchorLogRoleAdminChanged) ContractEventName() string {
	return AnchorLogRoleAdminChangedEventName
}

// UnpackRoleAdminChangedEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event RoleAdminChanged(bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole)
func (anchorLog *AnchorLog) UnpackRoleAdminChangedEvent(log *types.Log) (*AnchorLogRoleAdminChanged, error) {
	event := "RoleAdminChanged"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != anchorLog.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(AnchorLogRoleAdminChanged)
	if len(log.Data) > 0 {
		if err := anchorLog.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range anchorLog.abi.Events[event].Inputs {
		if arg.Indexed {
			indexed = append(indexed, arg)
		}
	}
	if err := abi.ParseTopics(out, indexed, log.Topics[1:]); err != nil {
		return nil, err
	}
	out.Raw = log
	return out, nil
}

// AnchorLogRoleGranted represents a RoleGranted event raised by the AnchorLog contract.
type AnchorLogRoleGranted struct {
	Role    [32]byte
	Account common.Address
	Sender  common.Address
	Raw     *types.Log // Blockchain specific contextual infos
}

const AnchorLogRoleGrantedEventName = "RoleGranted"

// ContractEventName returns the user-defined event name.
func (AnchorLogRoleGranted) ContractEventName() string {
	return AnchorLogRoleGrantedEventName
}

// UnpackRoleGrantedEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender)
func (anchorLog *AnchorLog) UnpackRoleGrantedEvent(log *types.Log) (*AnchorLogRoleGranted, error) {
	event := "RoleGranted"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != anchorLog.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(AnchorLogRoleGranted)
	if len(log.Data) > 0 {
		if err := anchorLog.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range anchorLog.abi.Events[event].Inputs {
		if arg.Indexed {
			indexed = append(indexed, arg)
		}
	}
	if err := abi.ParseTopics(out, indexed, log.Topics[1:]); err != nil {
		return nil, err
	}
	out.Raw = log
	return out, nil
}

// AnchorLogRoleRevoked represents a RoleRevoked event raised by the AnchorLog contract.
type AnchorLogRoleRevoked struct {
	Role    [32]byte
	Account common.Address
	Sender  common.Address
	Raw     *types.Log // Blockchain specific contextual infos
}

const AnchorLogRoleRevokedEventName = "RoleRevoked"

// ContractEventName returns the user-defined event name.
func (AnchorLogRoleRevoked) ContractEventName() string {
	return AnchorLogRoleRevokedEventName
}

// UnpackRoleRevokedEvent is the Go binding that unpacks the event data emitted
// by contract.
//
// Solidity: event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender)
func (anchorLog *AnchorLog) UnpackRoleRevokedEvent(log *types.Log) (*AnchorLogRoleRevoked, error) {
	event := "RoleRevoked"
	if len(log.Topics) == 0 {
		return nil, bind.ErrNoEventSignature
	}
	if log.Topics[0] != anchorLog.abi.Events[event].ID {
		return nil, bind.ErrEventSignatureMismatch
	}
	out := new(AnchorLogRoleRevoked)
	if len(log.Data) > 0 {
		if err := anchorLog.abi.UnpackIntoInterface(out, event, log.Data); err != nil {
			return nil, err
		}
	}
	var indexed abi.Arguments
	for _, arg := range anchorLog.abi.Events[event].Inputs {
		if arg.Indexed {
			indexed = append(indexed, arg)
		}
	}
	if err := abi.ParseTopics(out, indexed, log.Topics[1:]); err != nil {
		return nil, err
	}
	out.Raw = log
	return out, nil
}

// UnpackError attempts to decode the provided error data using user-defined
// error definitions.
func (anchorLog *AnchorLog) UnpackError(raw []byte) (any, error) {
	if bytes.Equal(raw[:4], anchorLog.abi.Errors["AccessControlBadConfirmation"].ID.Bytes()[:4]) {
		return anchorLog.UnpackAccessControlBadConfirmationError(raw[4:])
	}
	if bytes.Equal(raw[:4], anchorLog.abi.Errors["AccessControlUnauthorizedAccount"].ID.Bytes()[:4]) {
		return anchorLog.UnpackAccessControlUnauthorizedAccountError(raw[4:])
	}
	if bytes.Equal(raw[:4], anchorLog.abi.Errors["BadPrevRoot"].ID.Bytes()[:4]) {
		return anchorLog.UnpackBadPrevRootError(raw[4:])
	}
	if bytes.Equal(raw[:4], anchorLog.abi.Errors["BadSeq"].ID.Bytes()[:4]) {
		return anchorLog.UnpackBadSeqError(raw[4:])
	}
	if bytes.Equal(raw[:4], anchorLog.abi.Errors["BadSize"].ID.Bytes()[:4]) {
		return anchorLog.UnpackBadSizeError(raw[4:])
	}
	return nil, errors.New("Unknown error")
}

// AnchorLogAccessControlBadConfirmation represents a AccessControlBadConfirmation error raised by the AnchorLog contract.
type AnchorLogAccessControlBadConfirmation struct {
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error AccessControlBadConfirmation()
func AnchorLogAccessControlBadConfirmationErrorID() common.Hash {
	return common.HexToHash("0x6697b23232a647058342c0724fe7c415cab25915b54e5dbc03f233173d37b41c")
}

// UnpackAccessControlBadConfirmationError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error AccessControlBadConfirmation()
func (anchorLog *AnchorLog) UnpackAccessControlBadConfirmationError(raw []byte) (*AnchorLogAccessControlBadConfirmation, error) {
	out := new(AnchorLogAccessControlBadConfirmation)
	if err := anchorLog.abi.UnpackIntoInterface(out, "AccessControlBadConfirmation", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// AnchorLogAccessControlUnauthorizedAccount represents a AccessControlUnauthorizedAccount error raised by the AnchorLog contract.
type AnchorLogAccessControlUnauthorizedAccount struct {
	Account    common.Address
	NeededRole [32]byte
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error AccessControlUnauthorizedAccount(address account, bytes32 neededRole)
func AnchorLogAccessControlUnauthorizedAccountErrorID() common.Hash {
	return common.HexToHash("0xe2517d3fbfae6f8515ef5ff1ccedc3933ab0cbbda0b492c06eb54ad10ef03b3e")
}

// UnpackAccessControlUnauthorizedAccountError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error AccessControlUnauthorizedAccount(address account, bytes32 neededRole)
func (anchorLog *AnchorLog) UnpackAccessControlUnauthorizedAccountError(raw []byte) (*AnchorLogAccessControlUnauthorizedAccount, error) {
	out := new(AnchorLogAccessControlUnauthorizedAccount)
	if err := anchorLog.abi.UnpackIntoInterface(out, "AccessControlUnauthorizedAccount", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// AnchorLogBadPrevRoot represents a BadPrevRoot error raised by the AnchorLog contract.
type AnchorLogBadPrevRoot struct {
	Expected [32]byte
	Given    [32]byte
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error BadPrevRoot(bytes32 expected, bytes32 given)
func AnchorLogBadPrevRootErrorID() common.Hash {
	return common.HexToHash("0x6cc2cd8b073e1babe62b024ce94113cc646ccd63ab0639d695b161ac6296a975")
}

// UnpackBadPrevRootError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error BadPrevRoot(bytes32 expected, bytes32 given)
func (anchorLog *AnchorLog) UnpackBadPrevRootError(raw []byte) (*AnchorLogBadPrevRoot, error) {
	out := new(AnchorLogBadPrevRoot)
	if err := anchorLog.abi.UnpackIntoInterface(out, "BadPrevRoot", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// AnchorLogBadSeq represents a BadSeq error raised by the AnchorLog contract.
type AnchorLogBadSeq struct {
	Expected uint64
	Given    uint64
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error BadSeq(uint64 expected, uint64 given)
func AnchorLogBadSeqErrorID() common.Hash {
	return common.HexToHash("0xe430287caafcab597e53ca63bbf549a5f37d8f8a140d7472f8ab00eafdc3b6b3")
}

// UnpackBadSeqError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error BadSeq(uint64 expected, uint64 given)
func (anchorLog *AnchorLog) UnpackBadSeqError(raw []byte) (*AnchorLogBadSeq, error) {
	out := new(AnchorLogBadSeq)
	if err := anchorLog.abi.UnpackIntoInterface(out, "BadSeq", raw); err != nil {
		return nil, err
	}
	return out, nil
}

// AnchorLogBadSize represents a BadSize error raised by the AnchorLog contract.
type AnchorLogBadSize struct {
	Least uint64
	Given uint64
}

// ErrorID returns the hash of canonical representation of the error's signature.
//
// Solidity: error BadSize(uint64 least, uint64 given)
func AnchorLogBadSizeErrorID() common.Hash {
	return common.HexToHash("0x0073e026d9fe2652f2984221b6a3f54eaaa78371de59e16db7ff379e73c498b5")
}

// UnpackBadSizeError is the Go binding used to decode the provided
// error data into the corresponding Go error struct.
//
// Solidity: error BadSize(uint64 least, uint64 given)
func (anchorLog *AnchorLog) UnpackBadSizeError(raw []byte) (*AnchorLogBadSize, error) {
	out := new(AnchorLogBadSize)
	if err := anchorLog.abi.UnpackIntoInterface(out, "BadSize", raw); err != nil {
		return nil, err
	}
	return out, nil
}
