// A stand-in for the accelerator with its ports: copies four beats from region 2 to region 3, raises irq, and breaks
// one AXI rule, chosen by the watchdog register. ID and fingerprint are put in by the test.
module systolith (
    input aclk, input aresetn, output irq,
    output [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize, output [1:0] m_axi_arburst,
    output m_axi_arvalid, input m_axi_arready,
    input [63:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid, output m_axi_rready,
    output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize, output [1:0] m_axi_awburst,
    output m_axi_awvalid, input m_axi_awready,
    output [63:0] m_axi_wdata, output [7:0] m_axi_wstrb, output m_axi_wlast, output m_axi_wvalid, input m_axi_wready,
    input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    input [11:0] s_axil_awaddr, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [11:0] s_axil_araddr, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready
);
    localparam [31:0] WITHDRAW = 1, CROSS = 2, EARLY_LAST = 3, UNSTABLE = 4, OUTSIDE = 5;
    localparam IDLE = 0, READ = 1, DATA = 2, WRITE = 3, BEATS = 4, ANSWER = 5, DONE = 6;

    reg [31:0] source, target, mode, cycles, error;
    reg [2:0] state;
    reg [2:0] beat;
    reg [63:0] held [0:3];
    reg toggle;

    wire write = s_axil_awvalid && s_axil_wvalid && !s_axil_bvalid;
    assign {s_axil_awready, s_axil_wready} = {write, write};
    assign s_axil_arready = !s_axil_rvalid;
    assign {s_axil_bresp, s_axil_rresp} = 0;

    assign m_axi_arvalid = state == READ && !(mode == WITHDRAW && toggle);
    assign m_axi_araddr = mode == OUTSIDE ? 32'h10 : mode == CROSS ? (source | 32'hff0) : source;
    assign {m_axi_arlen, m_axi_arsize, m_axi_arburst} = {8'd3, 3'd3, 2'd1};
    assign m_axi_rready = 1;
    assign m_axi_awvalid = state == WRITE;
    assign m_axi_awaddr = target;
    assign {m_axi_awlen, m_axi_awsize, m_axi_awburst} = {8'd3, 3'd3, 2'd1};
    assign m_axi_wvalid = state == BEATS;
    assign m_axi_wdata = held[beat[1:0]] ^ {63'd0, mode == UNSTABLE && toggle};
    assign m_axi_wstrb = 8'hff;
    assign m_axi_wlast = beat == (mode == EARLY_LAST ? 2 : 3);
    assign m_axi_bready = 1;
    assign irq = state == DONE;

    always @(posedge aclk) begin
        toggle <= !toggle;
        if (state != IDLE && state != DONE) cycles <= cycles + 1;
        if (write) case (s_axil_awaddr)
            12'h010: state <= READ;
            12'h018: state <= IDLE;
            12'h024: mode <= s_axil_wdata;
            12'h420: source <= s_axil_wdata;
            12'h430: target <= s_axil_wdata;
        endcase
        s_axil_bvalid <= write || (s_axil_bvalid && !s_axil_bready);
        s_axil_rvalid <= (s_axil_arvalid && s_axil_arready) || (s_axil_rvalid && !s_axil_rready);
        if (s_axil_arvalid && s_axil_arready) case (s_axil_araddr)
            12'h000: s_axil_rdata <= 32'h53595354;
            12'h008: s_axil_rdata <= FINGERPRINT_LO;
            12'h00c: s_axil_rdata <= FINGERPRINT_HI;
            12'h014: s_axil_rdata <= error != 0 ? 4 : 2;
            12'h01c: s_axil_rdata <= error;
            12'h020: s_axil_rdata <= 0;
            12'h100: s_axil_rdata <= cycles;
            default: s_axil_rdata <= 0;
        endcase
        case (state)
            READ: if (m_axi_arvalid && m_axi_arready) {state, beat} <= {3'd2, 3'd0};
            DATA: if (m_axi_rvalid) begin
                held[beat[1:0]] <= m_axi_rdata;
                beat <= m_axi_rlast ? 0 : beat + 1;
                if (m_axi_rresp != 0) error <= 32'h00000005;
                if (m_axi_rlast) state <= WRITE;
            end
            WRITE: if (m_axi_awready) state <= BEATS;
            BEATS: if (m_axi_wready) begin
                beat <= beat + 1;
                if (beat == 3) state <= ANSWER;
            end
            ANSWER: if (m_axi_bvalid) begin
                state <= DONE;
                if (m_axi_bresp != 0) error <= 32'h00000406;
            end
        endcase
        if (!aresetn) begin
            {state, beat, cycles, error, toggle} <= 0;
            {s_axil_bvalid, s_axil_rvalid} <= 0;
        end
    end
endmodule
