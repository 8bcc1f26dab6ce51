package eci

import (
	"errors"
	"strings"
	"testing"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	sdkeci "github.com/aliyun/alibaba-cloud-sdk-go/services/eci"
)

// The vendor's typed client cannot read the published answer, as is known of it; its
// untyped one can.
func TestE47TypedPriceCannotBeRead(t *testing.T) {
	c, _ := sdkClient(t, "s3cret", false)
	typed := sdkeci.CreateDescribeContainerGroupPriceRequest()
	typed.Cpu, typed.Memory = requests.NewFloat(2), requests.NewFloat(4)
	var e sdkerrors.Error
	if _, err := c.DescribeContainerGroupPrice(typed); !errors.As(err, &e) || e.ErrorCode() != "SDK.JsonUnmarshalError" {
		t.Errorf("typed request: %v, want SDK.JsonUnmarshalError", err)
	}
	untyped := requests.NewCommonRequest()
	untyped.Method, untyped.Domain, untyped.Version, untyped.ApiName = "POST", c.Domain, apiVersion, "DescribeContainerGroupPrice"
	untyped.FormParams["Cpu"], untyped.FormParams["Memory"] = "2", "4"
	resp, err := c.ProcessCommonRequest(untyped)
	if err != nil || !strings.Contains(resp.GetHttpContentString(), `"TradePrice":0.00012252`) {
		t.Errorf("untyped request: %v, %s", err, resp.GetHttpContentString())
	}
}
